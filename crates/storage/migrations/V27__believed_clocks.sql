-- By which time what has ended was erased last: a clock that stands far ahead of it is not believed.
ALTER TABLE retention ADD COLUMN clock INTEGER;
UPDATE retention SET clock = (SELECT at FROM audit_events ORDER BY sequence DESC LIMIT 1);

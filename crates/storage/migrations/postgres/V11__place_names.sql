-- Each place of a partition has a name that nobody chooses. Copies that are opened get other ones each, and the map says which is meant.
ALTER TABLE own_partition ADD COLUMN name BYTEA NOT NULL DEFAULT uuid_send(gen_random_uuid()) CHECK (length(name) = 16);
DROP TRIGGER own_partition_goes_forward ON own_partition;
CREATE TRIGGER own_partition_goes_forward BEFORE UPDATE ON own_partition
    FOR EACH ROW WHEN (NEW.number <> OLD.number OR NEW.partitions <> OLD.partitions OR NEW.place < OLD.place
        OR NEW.place = OLD.place AND NEW.name <> OLD.name)
    EXECUTE FUNCTION refuse('a database stays the partition that it is, and a place is never gone back to');

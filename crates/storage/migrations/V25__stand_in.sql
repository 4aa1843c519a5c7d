-- Which decisions a node took alone while its database was away (PostgreSQL's; the embedded store is never away).
ALTER TABLE authorizations ADD COLUMN stand_in INTEGER NOT NULL DEFAULT 0 CHECK (stand_in IN (0, 1));

-- How the key that signs configurations was followed by the next stands in the catalogue of keys, beside the key that it
-- leads to and under the catalogue's MAC. A row here was the word of whoever could write to the database.
DROP TABLE key_successions;

-- A revocation holds the certificate that it revokes. Those from before have none.
ALTER TABLE revoked_issuer_certificates ADD COLUMN certificate BLOB;

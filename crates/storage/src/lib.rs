//! Repositories and migrations.

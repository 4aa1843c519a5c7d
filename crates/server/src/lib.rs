//! HTTP API of the platform.

//! Everything that is remembered: keys, immutable blobs, and the SQLite index.

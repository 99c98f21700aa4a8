//! The zip archive of an `.eval` log: sizes in the local headers, no comment, the same bytes for the same members.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::error::{Error, Result};

/// Packs members in their order. The writer seeks back to note sizes, where Inspect's viewer looks for them.
pub(super) fn pack(members: impl IntoIterator<Item = Result<(String, Vec<u8>)>>) -> Result<Vec<u8>> {
    let broken = |error: &dyn std::fmt::Display| Error::internal(format!("a log cannot be packed: {error}"));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::DEFAULT)
        .unix_permissions(0o644);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for member in members {
        let (name, content) = member?;
        let large = u32::try_from(content.len()).is_err();
        archive.start_file(name, options.large_file(large)).map_err(|error| broken(&error))?;
        archive.write_all(&content).map_err(|error| broken(&error))?;
    }
    Ok(archive.finish().map_err(|error| broken(&error))?.into_inner())
}

//! One file of a repository: it grows where it was cut off, and gets its name when its digest is right.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use super::client::{Client, Trouble};
use super::files::{FileDigest, ListedFile};
use crate::error::{Error, Result};
use crate::provider::fault::{Class, Fault};

/// Tries of one piece; a piece that brought anything is followed by as many again.
const MOST_TRIES: u32 = 6;
/// Bytes that are written at a time.
const BUFFER: usize = 1 << 20;
/// How often the end of somebody else's download is looked for.
const LOOK: Duration = Duration::from_millis(200);

/// Where a file comes from and where it goes.
pub(super) struct Download<'a> {
    /// Its address.
    pub url: String,
    /// What it must be.
    pub file: &'a ListedFile,
    /// Where it stands when it is whole, and where it grows until then.
    pub places: (&'a Path, &'a Path),
    /// Whoever holds its lock downloads it.
    pub lock: File,
}

impl Download<'_> {
    /// Downloads what is not there yet. `on_bytes` learns how much there is.
    pub async fn run(&self, client: &Client, on_bytes: &dyn Fn(u64)) -> Result<(), Trouble> {
        // Where a disk knows no locks, two that download the same see it by the digest.
        while matches!(self.lock.try_lock(), Err(TryLockError::WouldBlock)) {
            tokio::time::sleep(LOOK).await;
        }
        let (whole, growing) = self.places;
        let mut is_second = false;
        while !whole.exists() {
            let mut content = Content::open(growing, self.file)?;
            let begun_earlier = content.bytes > 0;
            self.receive(client, &mut content, on_bytes).await?;
            let found = content.finish()?;
            if found == self.file.digest.digits() {
                fs::rename(growing, whole)?;
                break;
            }
            fs::remove_file(growing)?;
            // What was there before may have been another's; what came whole just now is what the hub has.
            if !begun_earlier || is_second {
                let what =
                    format!("`{}` came with the digest {found}, not {}", self.file.path, self.file.digest.digits());
                return Err(Error::environment(what)
                    .with_help(
                        "run the same command again; if it stays so, do not trust what lies between you and the hub",
                    )
                    .into());
            }
            is_second = true;
        }
        on_bytes(self.file.bytes);
        Ok(())
    }

    /// Receives what is missing, in as many pieces as it takes.
    async fn receive(&self, client: &Client, content: &mut Content, on_bytes: &dyn Fn(u64)) -> Result<(), Trouble> {
        let mut tries = 0;
        while content.bytes < self.file.bytes {
            let before = content.bytes;
            let Err(fault) = self.receive_piece(client, content, on_bytes).await? else { continue };
            tries = if content.bytes > before { 1 } else { tries + 1 };
            if !fault.is_retryable() || tries >= MOST_TRIES {
                content.flush()?;
                return Err(Trouble::Fault(fault));
            }
            client.wait(&fault, tries).await;
        }
        Ok(())
    }

    /// One request and what came of it.
    async fn receive_piece(
        &self,
        client: &Client,
        content: &mut Content,
        on_bytes: &dyn Fn(u64),
    ) -> Result<Result<(), Fault>> {
        let mut request = client.get(&self.url).header(ACCEPT_ENCODING, "identity");
        if content.bytes > 0 {
            request = request.header(RANGE, format!("bytes={}-", content.bytes));
        }
        let mut response = match client.send(request).await {
            Ok(response) => response,
            Err(fault) if fault.status == Some(StatusCode::RANGE_NOT_SATISFIABLE.as_u16()) => {
                content.restart()?;
                return Ok(Err(Fault { class: Class::Server, ..fault }));
            }
            Err(fault) => return Ok(Err(fault)),
        };
        let begins =
            response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes "));
        let begins = begins.and_then(|range| range.split('-').next()?.parse::<u64>().ok());
        if response.status() != StatusCode::PARTIAL_CONTENT || begins != Some(content.bytes) {
            // A server that does not know ranges sends everything.
            content.restart()?;
        }
        loop {
            match response.chunk().await {
                Ok(Some(piece)) => content.write(&piece)?,
                Ok(None) => break,
                Err(error) => return Ok(Err(client.describe(error))),
            }
            if content.bytes > self.file.bytes {
                content.restart()?;
                let what = format!("`{}` is longer than the {} bytes it should have", self.file.path, self.file.bytes);
                return Ok(Err(Fault { is_final: true, ..Fault::new(Class::Malformed, what) }));
            }
            on_bytes(content.bytes);
        }
        match content.bytes < self.file.bytes {
            true => Ok(Err(Fault::new(Class::Lost, "the download was cut off"))),
            false => Ok(Ok(())),
        }
    }
}

/// A file that grows, and the digest of what it has.
struct Content {
    file: BufWriter<File>,
    digest: Context,
    bytes: u64,
    listed: ListedFile,
}

impl Content {
    /// Opens what was left, or begins.
    fn open(place: &Path, listed: &ListedFile) -> io::Result<Self> {
        let mut file = File::options().create(true).read(true).append(true).open(place)?;
        let mut digest = begin(listed);
        let mut bytes = file.metadata()?.len();
        if bytes > listed.bytes {
            file.set_len(0)?;
            bytes = 0;
        }
        let mut buffer = vec![0; if bytes > 0 { BUFFER } else { 0 }];
        let mut left = bytes;
        while left > 0 {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            digest.update(&buffer[..count]);
            left = left.saturating_sub(count as u64);
        }
        Ok(Content { file: BufWriter::with_capacity(BUFFER, file), digest, bytes, listed: listed.clone() })
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.digest.update(piece);
        self.bytes += piece.len() as u64;
        self.file.write_all(piece)
    }

    /// Throws away what there is.
    fn restart(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().set_len(0)?;
        self.digest = begin(&self.listed);
        self.bytes = 0;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Makes it durable; its digest.
    fn finish(mut self) -> io::Result<String> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(self.digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The digest of nothing; git's begins with what kind of thing it is of.
fn begin(file: &ListedFile) -> Context {
    match &file.digest {
        FileDigest::Sha256(_) => Context::new(&SHA256),
        FileDigest::Git(_) => {
            let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
            digest.update(format!("blob {}\0", file.bytes).as_bytes());
            digest
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(digest: FileDigest, bytes: u64) -> ListedFile {
        ListedFile { path: "f".to_string(), bytes, digest }
    }

    #[test]
    fn digests_are_git_s_and_sha_256_also_over_what_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("f");
        // `printf 'hello\n' | git hash-object --stdin`
        let git = listed(FileDigest::Git(String::new()), 6);
        let large = listed(FileDigest::Sha256(String::new()), 6);
        for (listed, expected) in [
            (git, "ce013625030ba8dba906f756967f9e9ca394464a"),
            (large, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"),
        ] {
            fs::write(&place, "hel").unwrap();
            let mut content = Content::open(&place, &listed).unwrap();
            assert_eq!(content.bytes, 3);
            content.write(b"lo\n").unwrap();
            assert_eq!(content.finish().unwrap(), expected);
            fs::write(&place, "much too long").unwrap();
            let mut content = Content::open(&place, &listed).unwrap();
            content.write(b"wrong").unwrap();
            content.restart().unwrap();
            content.write(b"hello\n").unwrap();
            assert_eq!(content.finish().unwrap(), expected);
            assert_eq!(fs::read(&place).unwrap(), b"hello\n");
        }
    }
}

//! What kind of file system a folder lies on: shared memory between processes, and so a write-ahead log, needs a local one.

use std::path::Path;

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
use super::blob::at;
use crate::error::Result;

/// What matters about a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// A disk of this machine.
    Local,
    /// Shared over a network, or behind FUSE, where nobody can tell.
    Network(&'static str),
    /// In memory: gone after a reboot.
    Memory,
}

impl FileSystem {
    /// The file system of an existing folder.
    #[cfg(target_os = "linux")]
    pub fn of(folder: &Path) -> Result<Self> {
        let facts = rustix::fs::statfs(folder).map_err(|error| at(folder, error.into()))?;
        // The width and sign of the field differ between platforms, the number itself has 32 bits.
        #[allow(clippy::unnecessary_cast)]
        Ok(Self::of_magic(facts.f_type as u32))
    }

    /// The file system of an existing folder.
    #[cfg(target_vendor = "apple")]
    pub fn of(folder: &Path) -> Result<Self> {
        let facts = rustix::fs::statfs(folder).map_err(|error| at(folder, error.into()))?;
        let name: Vec<u8> = facts.f_fstypename.iter().take_while(|sign| **sign != 0).map(|sign| *sign as u8).collect();
        Ok(match name.as_slice() {
            b"nfs" => FileSystem::Network("NFS"),
            b"smbfs" => FileSystem::Network("SMB"),
            b"afpfs" => FileSystem::Network("AFP"),
            b"webdav" => FileSystem::Network("WebDAV"),
            b"macfuse" | b"osxfuse" => FileSystem::Network("FUSE"),
            b"tmpfs" => FileSystem::Memory,
            _ => FileSystem::Local,
        })
    }

    /// The file system of an existing folder; known on Linux and Apple's systems only.
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    pub fn of(_folder: &Path) -> Result<Self> {
        Ok(FileSystem::Local)
    }

    /// By the magic number of `statfs` (linux/magic.h, and the sources of Lustre, GPFS and BeeGFS).
    #[cfg(any(target_os = "linux", test))]
    pub fn of_magic(magic: u32) -> Self {
        match magic {
            0x6969 => FileSystem::Network("NFS"),
            0x517B | 0xFE53_4D42 | 0xFF53_4D42 => FileSystem::Network("SMB"),
            0x0BD0_0BD0 => FileSystem::Network("Lustre"),
            0x4750_4653 => FileSystem::Network("GPFS"),
            0x1983_0326 => FileSystem::Network("BeeGFS"),
            0x00C3_6400 => FileSystem::Network("Ceph"),
            0x5346_414F | 0x6B41_4653 => FileSystem::Network("AFS"),
            0xAAD7_AAEA => FileSystem::Network("PanFS"),
            0x0102_1997 => FileSystem::Network("9P"),
            0x6573_5546 => FileSystem::Network("FUSE"),
            0x0102_1994 | 0x8584_58F6 => FileSystem::Memory,
            _ => FileSystem::Local,
        }
    }

    /// What people should know about a store that lies there.
    pub fn note(&self) -> Option<String> {
        match self {
            FileSystem::Local => None,
            FileSystem::Network(name) => Some(format!(
                "the store lies on a network file system ({name}): its index uses a rollback journal instead of a \
                 write-ahead log, which would be corrupted there; put `results` on a local disk to be faster and safer"
            )),
            FileSystem::Memory => {
                Some("the store lies in memory (tmpfs): everything in it is gone after a reboot".to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_number() {
        assert_eq!(FileSystem::of_magic(0x6969), FileSystem::Network("NFS"));
        assert_eq!(FileSystem::of_magic(0x0BD00BD0), FileSystem::Network("Lustre"));
        // ext4.
        assert_eq!(FileSystem::of_magic(0xEF53), FileSystem::Local);
        assert!(FileSystem::of(Path::new("/")).is_ok());
    }
}

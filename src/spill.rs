//! What does not fit into memory: bytes in a file that has no name, or loses it at once where the system can't do without, so that nothing of it is left
//! however the process ends.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How much memory a training run may take for texts, terms and vectors, and where the rest goes.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Bytes; nothing: as many as it takes.
    pub limit: Option<u64>,
    /// The folder for temporary files.
    pub folder: PathBuf,
    /// Bytes written to temporary files so far, by all that share this.
    written: Arc<AtomicU64>,
}

/// Bytes of text that are read and worked on at once.
const CHUNK: u64 = 32 << 20;

/// Bytes for models that are fitted at once.
const SOLVER: u64 = 320 << 20;

impl Default for Memory {
    /// All that there is, and the system's temporary folder.
    fn default() -> Self {
        Self::new(None, std::env::temp_dir())
    }
}

impl Memory {
    /// At most `limit` bytes; temporary files go to `folder`.
    #[must_use]
    pub fn new(limit: Option<u64>, folder: PathBuf) -> Self {
        Self { limit, folder, written: Arc::default() }
    }

    /// Bytes that texts may take: a quarter.
    pub(crate) fn texts(&self) -> u64 {
        self.part(4)
    }

    /// Bytes that terms may take while they are counted, which is over before there are vectors: a quarter.
    pub(crate) fn terms(&self) -> u64 {
        self.part(4)
    }

    /// Bytes that may be recorded of documents while their terms are counted: a quarter. Vectors take their place, and half of the room.
    pub(crate) fn recorded(&self) -> u64 {
        self.part(4)
    }

    /// Bytes that vectors may take: half. What is left of the limit is for everything else.
    pub(crate) fn vectors(&self) -> u64 {
        self.part(2)
    }

    /// Bytes that the solver may take for models that it fits at once, unless a single one takes more: a sixteenth, and never more than is of use.
    pub(crate) fn solver(&self) -> u64 {
        self.part(16).min(SOLVER)
    }

    /// One of so many equal parts of the limit.
    fn part(&self, parts: u64) -> u64 {
        self.limit.map_or(u64::MAX, |limit| limit / parts)
    }

    /// Bytes of text to work on at once.
    pub(crate) fn chunk(&self) -> u64 {
        self.limit.map_or(CHUNK, |limit| (limit / 64).min(CHUNK)).max(1)
    }

    /// Bytes written to temporary files so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// A temporary file, made when something is written to it.
#[derive(Debug)]
pub(crate) struct Spill {
    memory: Memory,
    file: Mutex<Option<File>>,
    length: u64,
}

impl Spill {
    pub(crate) fn new(memory: &Memory) -> Self {
        Self { memory: memory.clone(), file: Mutex::default(), length: 0 }
    }

    /// Writes `bytes` behind what there is; returns where they begin.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let file = self.file.get_mut().unwrap_or_else(PoisonError::into_inner);
        let file = match file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&self.memory.folder)?),
        };
        // Reading moves the place where the file is written.
        file.seek(SeekFrom::Start(self.length))?;
        file.write_all(bytes)?;
        let begin = self.length;
        self.length += bytes.len() as u64;
        self.memory.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(begin)
    }

    /// Fills `bytes` from those that begin at `begin`.
    pub(crate) fn read(&self, begin: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = file.as_mut().ok_or(io::ErrorKind::UnexpectedEof)?;
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(bytes)
    }

    /// Bytes written.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_in_any_order_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new(Some(0), folder.path().to_owned());
        let mut spill = Spill::new(&memory);
        assert!(spill.read(0, &mut [0]).is_err());
        assert_eq!(spill.append(b"one").unwrap(), 0);
        let mut bytes = [0; 2];
        spill.read(1, &mut bytes).unwrap();
        assert_eq!(&bytes, b"ne");
        assert_eq!(spill.append(b"two").unwrap(), 3);
        spill.read(3, &mut bytes).unwrap();
        assert_eq!((&bytes, spill.length(), memory.written()), (b"tw", 6, 6));
        assert!(spill.read(5, &mut bytes).is_err());
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let memory = Memory::new(Some(0), "/there/is/no/such/folder".into());
        assert!(Spill::new(&memory).append(b"one").is_err());
    }
}

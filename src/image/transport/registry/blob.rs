//! A layer's blob that is not here yet: fetched when somebody wants to read it, into a file without a name.
//!
//! Who never reads it (the layer is in the store already) costs nothing. Reading begins the download and waits for what it
//! has not got yet, so that downloading, decompressing and unpacking go on at the same time; the download does not wait for
//! its readers. A download that is cut goes on where it was (a `Range` request), as long as it gets on.
//!
//! Nothing is verified here but the length: whoever unpacks the layer verifies its digest, of exactly the bytes that it got.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use reqwest::{Response, StatusCode, header};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::RegistryError;
use super::session::{ANSWER_PATIENCE, ATTEMPTS, Session, pause_before};
use super::words::reason;
use crate::image::transport::section::ReadAt;

/// Bytes that are written at once.
const CHUNK: usize = 1 << 20;

/// Hears how many bytes are here, and how many it will be.
pub type Tell = dyn Fn(u64, u64) + Send + Sync;

/// What the downloads of an image share.
pub(super) struct Downloads {
    pub(super) session: Session,
    pub(super) runtime: Handle,
    /// So many at a time.
    pub(super) permits: Semaphore,
    /// Where files can lie.
    pub(super) folder: PathBuf,
    pub(super) done: AtomicU64,
    pub(super) all: AtomicU64,
    pub(super) tell: Arc<Tell>,
}

impl Downloads {
    fn tell(&self, done: u64, all: u64) {
        let done = self.done.fetch_add(done, Ordering::Relaxed) + done;
        let all = self.all.fetch_add(all, Ordering::Relaxed) + all;
        (self.tell)(done, all);
    }
}

/// See the module.
pub(super) struct RemoteBlob {
    downloads: Arc<Downloads>,
    digest: String,
    size: u64,
    shared: Arc<Shared>,
}

/// What the download and its readers share.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    has_begun: bool,
    task: Option<AbortHandle>,
    file: Option<Arc<File>>,
    /// Bytes of the file that are there.
    available: u64,
    /// Why there will be no more.
    failure: Option<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// Tells the readers when the download is over, however it ends.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.failure.get_or_insert_with(|| "the download was interrupted".to_owned());
        });
    }
}

impl RemoteBlob {
    pub(super) fn new(downloads: Arc<Downloads>, digest: String, size: u64) -> RemoteBlob {
        RemoteBlob { downloads, digest, size, shared: Arc::default() }
    }
}

impl Drop for RemoteBlob {
    fn drop(&mut self) {
        if let Some(task) = &self.shared.lock().task {
            task.abort();
        }
    }
}

impl ReadAt for RemoteBlob {
    fn begin(&self) {
        if std::mem::replace(&mut self.shared.lock().has_begun, true) {
            return;
        }
        let (downloads, digest, size) = (Arc::clone(&self.downloads), self.digest.clone(), self.size);
        let ending = Ending(Arc::clone(&self.shared));
        let task = self.downloads.runtime.spawn(async move {
            let download = Download { downloads: &downloads, shared: &ending.0, digest: &digest, size };
            if let Err(error) = download.run().await {
                ending.0.change(|state| state.failure = Some(error.to_string()));
            }
        });
        self.shared.lock().task = Some(task.abort_handle());
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        if buffer.is_empty() || position >= self.size {
            return Ok(0);
        }
        self.begin();
        let mut state = self.shared.lock();
        loop {
            if state.available > position
                && let Some(file) = state.file.clone()
            {
                let there = usize::try_from(state.available - position).unwrap_or(usize::MAX);
                drop(state);
                let length = buffer.len().min(there);
                return FileExt::read_at(&*file, &mut buffer[..length], position);
            }
            if let Some(failure) = &state.failure {
                return Err(io::Error::other(failure.clone()));
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Download<'d> {
    downloads: &'d Downloads,
    shared: &'d Shared,
    digest: &'d str,
    size: u64,
}

impl Download<'_> {
    async fn run(&self) -> Result<(), RegistryError> {
        self.downloads.tell(0, self.size);
        let _permit = self.downloads.permits.acquire().await.map_err(|error| RegistryError::Fault(error.to_string()))?;
        let folder = self.downloads.folder.clone();
        let file = blocking(move || tempfile::tempfile_in(folder)).await?;
        let file = Arc::new(file);
        self.shared.change(|state| state.file = Some(Arc::clone(&file)));
        let (mut have, mut failures) = (0, 0);
        while have < self.size {
            let before = have;
            let problem = match self.part(&file, &mut have).await {
                Ok(()) if have == self.size => return Ok(()),
                Ok(()) => "the registry ends before the blob does".to_owned(),
                Err(Interruption::Final(error)) => return Err(error),
                Err(Interruption::Passing(problem)) => problem,
            };
            failures = if have > before { 1 } else { failures + 1 };
            if failures == ATTEMPTS {
                return Err(self.downloads.session.unreachable(problem));
            }
            tracing::debug!("`{}` is cut off after {have} bytes: {problem}; going on", self.digest);
            tokio::time::sleep(pause_before(failures)).await;
        }
        Ok(())
    }

    /// Fetches all that is missing, or as much of it as comes.
    async fn part(&self, file: &Arc<File>, have: &mut u64) -> Result<(), Interruption> {
        let session = &self.downloads.session;
        let url = session.url(&format!("blobs/{}", self.digest));
        let range = format!("bytes={have}-");
        let with = |request: reqwest::RequestBuilder| if *have > 0 { request.header(header::RANGE, &range) } else { request };
        let response = session.accept(session.get(&url, with).await?, &format!("the blob `{}`", self.digest)).await?;
        let mut skip = begins_before(&response, *have).map_err(|words| session.refused(words, ""))?;
        let (mut response, mut buffer) = (response, Vec::with_capacity(CHUNK));
        loop {
            let part = tokio::time::timeout(ANSWER_PATIENCE, response.chunk()).await;
            let (part, problem) = match part {
                Ok(Ok(Some(part))) => (part, None),
                Ok(Ok(None)) => (bytes::Bytes::new(), Some(None)),
                Ok(Err(error)) => (bytes::Bytes::new(), Some(Some(reason(&error)))),
                Err(_) => (bytes::Bytes::new(), Some(Some("it does not go on".to_owned()))),
            };
            let skipped = usize::try_from(skip).map_or(part.len(), |skip| skip.min(part.len()));
            skip -= skipped as u64;
            buffer.extend_from_slice(&part[skipped..]);
            if *have + buffer.len() as u64 > self.size {
                let what = format!("the blob `{}`", self.digest);
                return Err(RegistryError::TooLong { what, limit: self.size }.into());
            }
            if buffer.len() >= CHUNK || problem.is_some() {
                buffer = self.write(file, buffer, have).await?;
            }
            match problem {
                None => {}
                Some(None) => return Ok(()),
                Some(Some(problem)) => return Err(Interruption::Passing(problem)),
            }
        }
    }

    /// Appends to the file; gives the buffer back, empty.
    async fn write(&self, file: &Arc<File>, mut buffer: Vec<u8>, have: &mut u64) -> Result<Vec<u8>, RegistryError> {
        let (file, position, length) = (Arc::clone(file), *have, buffer.len() as u64);
        let buffer = blocking(move || {
            file.write_all_at(&buffer, position)?;
            buffer.clear();
            Ok(buffer)
        });
        let buffer = buffer.await?;
        *have += length;
        self.shared.change(|state| state.available = *have);
        self.downloads.tell(length, 0);
        Ok(buffer)
    }
}

/// Why a download stopped.
enum Interruption {
    /// It can go on.
    Passing(String),
    Final(RegistryError),
}

impl<E: Into<RegistryError>> From<E> for Interruption {
    fn from(error: E) -> Interruption {
        Interruption::Final(error.into())
    }
}

/// How many bytes before `wanted` an answer begins; a registry may give the whole blob where a part was asked for.
fn begins_before(response: &Response, wanted: u64) -> Result<u64, &'static str> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(wanted);
    }
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let begin = range.and_then(content_range).ok_or("does not say which part of a blob it gives")?;
    wanted.checked_sub(begin).ok_or("gives another part of a blob than was asked for")
}

/// Where a part begins: `bytes BEGIN-END/SIZE`.
fn content_range(text: &str) -> Option<u64> {
    let (begin, _) = text.trim().strip_prefix("bytes ")?.split_once('-')?;
    begin.trim().parse().ok()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, RegistryError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| RegistryError::Fault(error.to_string()))?;
    done.map_err(RegistryError::Disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_blobs() {
        assert_eq!(content_range("bytes 7-9/10"), Some(7));
        assert_eq!(content_range("bytes 0-9/*"), Some(0));
        for text in ["", "bytes", "bytes */10", "bytes x-9/10", "items 1-2/3", "bytes 99999999999999999999-1/2"] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }
}

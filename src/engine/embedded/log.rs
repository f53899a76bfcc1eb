//! What a container's first process writes, as long as somebody may ask for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes that are kept: the end.
const KEPT: usize = 16 << 20;

/// See the module. Clones are the same log.
#[derive(Debug, Clone, Default)]
pub(super) struct Log(Arc<Mutex<VecDeque<u8>>>);

impl Log {
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(KEPT);
        kept.drain(..excess);
    }

    /// Takes all that comes.
    pub(super) async fn follow(self, mut from: impl AsyncRead + Unpin) {
        let mut part = vec![0; 16 << 10];
        while let Ok(length @ 1..) = from.read(&mut part).await {
            self.push(&part[..length]);
        }
    }

    /// The last lines.
    pub(super) fn lines(&self, count: usize) -> Vec<String> {
        let bytes: Vec<u8> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let mut lines: Vec<String> = text.lines().rev().take(count).map(str::to_owned).collect();
        lines.reverse();
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_is_kept() {
        let log = Log::default();
        log.clone().follow(&b"one\ntwo\nthr"[..]).await;
        log.push(b"ee\r\n");
        assert_eq!(log.lines(2), ["two", "three"]);
        log.push(&vec![b'x'; KEPT]);
        assert_eq!(log.lines(5).len(), 1);
    }
}

//! One reading of folder and registry for all who ask while another one is under way. A run over a fleet asks for one
//! before and after each device is changed, a hundred at a time, and each reading is of everything.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use crate::failure::Outcome;

/// Readings, one at a time.
#[derive(Default)]
pub(super) struct Rereading {
    begun: AtomicU64,
    /// The last that ended well: its number, and what it came to.
    last: Mutex<Option<(u64, usize)>>,
}

impl Rereading {
    /// Reads, unless a reading that began after this call has ended well meanwhile: then what that one came to.
    pub(super) async fn after_now<R>(&self, read: impl FnOnce() -> R) -> Outcome<usize>
    where
        R: Future<Output = Outcome<usize>>,
    {
        let asked = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some((number, came_to)) = *last
            && number > asked
        {
            return Ok(came_to);
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let came_to = read().await?;
        *last = Some((number, came_to));
        Ok(came_to)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::failure::{Exit, Failure};

    #[tokio::test]
    async fn all_who_ask_during_a_reading_share_the_next_one() {
        let (readings, file) = (Arc::new(Rereading::default()), Arc::new(AtomicUsize::new(0)));
        let (read, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let ask = || {
            let (readings, file) = (readings.clone(), file.clone());
            let (read, gate) = (read.clone(), gate.clone());
            tokio::spawn(async move {
                let mine = file.fetch_add(1, Ordering::SeqCst) + 1;
                let seen = readings.after_now(async || {
                    read.fetch_add(1, Ordering::SeqCst);
                    let seen = file.load(Ordering::SeqCst);
                    gate.acquire().await.expect("it stays open").forget();
                    Ok(seen)
                });
                (mine, seen.await.expect("it can be read"))
            })
        };
        let first = ask();
        while read.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let rest: Vec<_> = (0..100).map(|_| ask()).collect();
        while file.load(Ordering::SeqCst) < 101 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), (1, 1));
        for one in rest {
            let (mine, seen) = one.await.unwrap();
            assert!(seen >= mine, "asked after change {mine} and told of {seen}");
        }
        assert_eq!(read.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_reading_that_failed_is_nobody_elses() {
        let readings = Rereading::default();
        let fails = readings.after_now(async || Err(Failure::new(Exit::System, "half a file")));
        let (failed, read) = tokio::join!(fails, readings.after_now(async || Ok(7)));
        assert!(failed.is_err());
        assert_eq!(read.unwrap(), 7);
    }
}

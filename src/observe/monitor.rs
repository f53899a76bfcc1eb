//! The controller's end of a monitor: its records as they come, what they say of the target now, and orders to it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use slim_sensor::wire::{Control, EndReason, Fanotify, FrameReader, Listener, Record, VERSION, put_message};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};

use super::recorder::Feed;
use crate::engine::container::{Attached, Complaints, Input};
use crate::engine::runtime::Ending;

/// How long a record may take from the monitor to here.
const RECORD_DELAY: Duration = Duration::from_secs(5);

/// What is known of the target at this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The monitor runs.
    pub greeted: bool,
    /// What fanotify sees, once that is known.
    pub fanotify: Option<Fanotify>,
    /// Why it can see nothing.
    pub blind: Option<String>,
    /// The phase that the monitor has confirmed.
    pub phase: Option<u32>,
    /// Sockets on which processes of the container listen.
    pub listening: Vec<Listener>,
    /// The programs that were started, by number: 1 is the target.
    pub sessions: BTreeMap<u32, Session>,
    /// How many uses of paths were told.
    pub uses: u64,
    /// Signals that would have an effect on the container's first process, at the last look; bit 0 is signal 1.
    pub heeded_signals: Option<u64>,
    /// The last record came, and why.
    pub ended: Option<EndReason>,
    /// The stream is closed.
    pub closed: bool,
    /// The stream was cut or damaged; in words.
    pub damage: Option<String>,
}

/// A program that was started through a stub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The name that we gave it.
    pub name: String,
    /// It has ended.
    pub end: Option<SessionEnd>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionEnd {
    /// Its exit status, where it ended by itself.
    pub status: Option<i32>,
    /// It could not be started.
    pub start_failed: bool,
}

impl Status {
    /// The target's session.
    #[must_use]
    pub fn target(&self) -> Option<&Session> {
        self.sessions.get(&1)
    }

    /// The target has ended, or nothing more will be known of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.closed || self.target().is_some_and(|session| session.end.is_some())
    }
}

/// A running monitor.
#[derive(Debug)]
pub struct Monitor {
    status: watch::Receiver<Status>,
    control: mpsc::UnboundedSender<Control>,
    complaints: Complaints,
    end: Ending,
}

impl Monitor {
    /// Follows the monitor that was started, whose end `end` tells; its records go to `feed`.
    #[must_use]
    pub fn follow(attached: Attached, end: Ending, feed: Feed) -> Monitor {
        let (sender, status) = watch::channel(Status::default());
        let (control, orders) = mpsc::unbounded_channel();
        let complaints = attached.complaints.clone();
        tokio::spawn(send_orders(attached.input, orders));
        tokio::spawn(receive(attached.output, feed, sender, control.clone()));
        Monitor { status, control, complaints, end }
    }

    /// What is known now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until `condition` holds, or nothing more will be known; what is known then.
    pub async fn wait_for(&self, condition: impl Fn(&Status) -> bool) -> Status {
        let mut status = self.status.clone();
        let known = status.wait_for(|status| status.closed || condition(status)).await;
        match known {
            Ok(known) => known.clone(),
            Err(_) => self.status(),
        }
    }

    /// How the program of a session ended; `None` where the monitor doesn't say. Its streams and its exit code can come a
    /// moment before the monitor's record, which is waited for.
    pub async fn session_end(&self, name: &str) -> Option<SessionEnd> {
        let end = |status: &Status| status.sessions.values().find(|known| known.name == name)?.end;
        let told = self.wait_for(|status| end(status).is_some());
        let status = tokio::time::timeout(RECORD_DELAY, told).await;
        end(&status.unwrap_or_else(|_| self.status()))
    }

    /// Begins a phase: what is used from now on belongs to it.
    pub async fn phase(&self, phase: u32) {
        // Nobody there to take it: then there is nothing to belong to the phase.
        let _ = self.control.send(Control::Phase(phase));
        self.wait_for(|status| status.phase >= Some(phase)).await;
    }

    /// Signals that would have an effect on the container's first process now; bit 0 is signal 1. `None` where the
    /// monitor does not answer any more.
    pub async fn heeded_signals(&self) -> Option<u64> {
        let _ = self.control.send(Control::Signals);
        self.wait_for(|status| status.heeded_signals.is_some()).await.heeded_signals
    }

    /// Lets the monitor tell everything that it knows, and say so.
    pub async fn end(&self) {
        let _ = self.control.send(Control::End);
        self.wait_for(|status| status.ended.is_some()).await;
    }

    /// What the monitor complained about, and its exit code where it has ended.
    pub async fn post_mortem(&self) -> (String, Option<i64>) {
        (self.complaints.text(), self.end.exit_code().await.ok().flatten())
    }
}

async fn send_orders(mut input: Input, mut orders: mpsc::UnboundedReceiver<Control>) {
    while let Some(order) = orders.recv().await {
        let mut frame = vec![];
        put_message(&mut frame, &order);
        // The monitor is gone; the other direction says so.
        if input.write_all(&frame).await.is_err() || input.flush().await.is_err() {
            return;
        }
    }
}

async fn receive(
    mut output: std::pin::Pin<Box<dyn futures_util::Stream<Item = std::io::Result<bytes::Bytes>> + Send>>,
    mut feed: Feed,
    status: watch::Sender<Status>,
    control: mpsc::UnboundedSender<Control>,
) {
    let mut frames = FrameReader::default();
    let (mut damage, mut is_confirmed) = (None, false);
    while let Some(part) = output.next().await {
        let taken = part.map_err(|error| error.to_string()).and_then(|bytes| {
            frames.feed(&bytes);
            take_records(&mut frames, &mut feed, &status).map_err(|error| error.to_string())
        });
        if !is_confirmed && status.borrow().ended.is_some() {
            is_confirmed = true;
            // The target's end waits for this; not where the monitor is gone.
            let _ = control.send(Control::EndArrived);
        }
        if let Err(error) = taken {
            damage = Some(error);
            break;
        }
    }
    status.send_modify(|status| {
        status.damage = damage.or_else(|| frames.is_cut().then(|| "the last record is cut".to_owned()));
        status.closed = true;
    });
}

fn take_records(
    frames: &mut FrameReader,
    feed: &mut Feed,
    status: &watch::Sender<Status>,
) -> Result<(), slim_sensor::wire::WireError> {
    // One notification for everything that came together.
    let mut now = status.borrow().clone();
    while let Some(frame) = frames.next_frame()? {
        let record: Record = frame.message()?;
        // What was done after the end is not part of the evidence.
        if now.ended.is_none() {
            feed.record(&record);
        }
        match record {
            Record::Hello { version, fanotify } => {
                now.greeted = version == VERSION;
                now.fanotify = Some(fanotify);
            }
            Record::Blind(reason) => now.blind = Some(reason),
            Record::Phase(phase) => now.phase = Some(phase),
            Record::Listening(listening) => now.listening = listening,
            Record::Session { session, name, .. } => drop(now.sessions.insert(session, Session { name, end: None })),
            Record::SessionEnd { session, status, start_failed } => {
                if let Some(session) = now.sessions.get_mut(&session) {
                    session.end = Some(SessionEnd { status, start_failed });
                }
            }
            Record::End { reason, .. } => now.ended = Some(reason),
            Record::Path { .. } => now.uses += 1,
            Record::Signals(signals) => now.heeded_signals = Some(signals),
            Record::Process { .. } | Record::Executed { .. } | Record::Call { .. } | Record::Note(_) | Record::Lost(_) => {}
        }
    }
    status.send_replace(now);
    Ok(())
}

#[cfg(test)]
mod tests {
    use slim_sensor::wire::put_message;

    use super::*;
    use crate::observe::recorder::Recorder;

    fn frame(record: &Record) -> std::io::Result<bytes::Bytes> {
        let mut frame = vec![];
        put_message(&mut frame, record);
        Ok(frame.into())
    }

    /// Regression: a command that could not be started was taken for one that failed where the monitor's record of its end
    /// came after the end of its streams.
    #[tokio::test]
    async fn the_record_of_an_end_is_waited_for() {
        let begin = Record::Session { session: 2, name: "exec-0".to_owned(), pid: 7 };
        let end = Record::SessionEnd { session: 2, status: Some(127), start_failed: true };
        let records = futures_util::stream::iter([frame(&begin)]).chain(futures_util::stream::once(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            frame(&end)
        }));
        let attached =
            Attached { output: Box::pin(records), input: Box::pin(tokio::io::sink()), complaints: Complaints::default() };
        let (_exit_code, ending) = watch::channel(None);
        let monitor = Monitor::follow(attached, Ending::Embedded(ending), Recorder::default().feed(0));
        monitor.wait_for(|status| !status.sessions.is_empty()).await;
        assert_eq!(monitor.session_end("exec-0").await, Some(SessionEnd { status: Some(127), start_failed: true }));
        assert_eq!(monitor.session_end("exec-1").await, None, "of what never began nothing comes");
    }
}

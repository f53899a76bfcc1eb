//! An observed container of slim's own engine.

use std::sync::Arc;

use slim_sensor::container::spec::{Mount as Mounted, Mounted as What};

use super::{Facts, Started, TargetError, TargetSpec};
use crate::engine::embedded::{Embedded, EmbeddedError, ObservedStart, RunnerError, StubOptions, Tier};
use crate::engine::runtime::{Contained, Ending};
use crate::engine::volumes::Copies;
use crate::observe::observation::{Mount, Shows};

/// What the engine makes in every container.
const MADE: [&str; 6] = ["/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// What a program may fail of that starts as root and then becomes somebody else.
const ONE_ID: &str = "there is only one user id to be had here: a program that becomes another user may wait or fail; `slim doctor` tells \
                      how to get more";

/// Makes the container, with stub and monitor.
pub(super) async fn start(
    spec: &TargetSpec,
    engine: &Embedded,
    volumes: Option<&Copies>,
) -> Result<(Started, Facts), TargetError> {
    let root = engine.root(&spec.image, |_, _| {}).await?;
    let (attach, no_terminal) = (spec.input.is_some(), spec.has_input());
    let volumes_of = volumes.map(Copies::directories).unwrap_or_default();
    let what = StubOptions { stub: &spec.stub, command: &spec.command, volumes: &volumes_of, attach, no_terminal };
    let started = engine.start_observed(&spec.image, &root, &spec.options, what).await;
    let ObservedStart { container, monitor, monitor_exit, attached, mounts, hostname } =
        started.map_err(|error| match error {
            EmbeddedError::Runner(RunnerError::Start(failure)) => TargetError::Start(failure.reason),
            other => other.into(),
        })?;
    let config = spec.image.config.config.as_ref();
    let mut notes = container.fallbacks().to_vec();
    if engine.tier() == Tier::SingleId {
        notes.push(ONE_ID.to_owned());
    }
    let facts = Facts {
        mounts: MADE.iter().map(|target| made(target)).chain(mounts.iter().map(|mount| mounted(mount, volumes))).collect(),
        stop_timeout: config.and_then(|config| config.stop_timeout),
        hostname,
        notes,
        ..Facts::default()
    };
    let (container, monitor_end) = (Contained::Embedded(Arc::new(container)), Ending::Embedded(monitor_exit));
    Ok((Started { container, stub: spec.stub.clone(), monitor, monitor_end, attached }, facts))
}

fn made(target: &str) -> Mount {
    Mount { target: target.as_bytes().to_vec(), shows: Shows::Engine }
}

fn mounted(mount: &Mounted, volumes: Option<&Copies>) -> Mount {
    let target = mount.target.as_bytes().to_vec();
    let shows = match mount.what {
        _ if volumes.is_some_and(|volumes| volumes.replaces(&target)) => Shows::User,
        What::Bind(_) => Shows::User,
        What::Volume(_) => Shows::Image,
        What::Tmpfs(_) => Shows::Engine,
    };
    Mount { target, shows }
}

//! How fast the image is unpacked, and how soon its first process has run: against `umoci unpack` and `docker load`.
//!
//! Of `docker load` only the client could be seen, so its wall time alone is told.

use std::process::Command;
use std::time::Instant;

use super::image::NAME;
use super::measure::{Measured, measure, middle, note, or_unknown, seconds};
use super::support::{Result, docker, median, run, spread};
use super::{Image, TURNS};

pub(crate) fn bench(image: &Image) -> Result<()> {
    let at = |name: &str| image.folder.join(name);
    let (archive, layout, megabytes) = (image.archive(), image.layout(), image.megabytes);
    let mut rows: [(&str, Vec<Measured>); 6] =
        ["slim, archive", "slim, layout", "umoci unpack", "docker load", "slim, archive, warm", "slim, layout, warm"]
            .map(|name| (name, vec![]));
    // What was unpacked stays to the end: an ext4 without a journal is four times slower for minutes after many files were removed.
    for turn in 0..TURNS {
        for (image, cold, warm) in [(&archive, 0, 4), (&layout, 1, 5)] {
            let cache = at(&format!("cache-{cold}-{turn}"));
            let words = ["run", "--quiet", image, "/busybox", "true"].map(str::to_owned);
            for row in [cold, warm] {
                note(&mut rows[row], measure(env!("CARGO_BIN_EXE_slim"), &words, &cache)?);
            }
        }
        let bundle = at(&format!("bundle-{turn}")).display().to_string();
        let tagged = format!("{}:1", at("layout").display());
        let words = ["unpack", "--image", &tagged, &bundle].map(str::to_owned);
        note(&mut rows[2], measure("umoci", &words, image.folder)?);
    }
    // Which has to remove what it has loaded, so it comes after the others.
    for _ in 0..TURNS {
        run(&mut Command::new("sync"))?;
        let begun = Instant::now();
        run(docker(&["load", "--quiet", "-i"]).arg(at("image.tar")))?;
        note(&mut rows[3], Measured { seconds: begun.elapsed().as_secs_f64(), cpu: f64::NAN, memory: f64::NAN });
        run(&mut docker(&["rmi", NAME]))?;
    }

    let base = median(&mut seconds(&rows[0].1));
    println!("\n{:<22} {:>26} {:>8} {:>12} {:>12} {:>9}", "", "seconds", "MB/s", "MB/s a core", "peak MB", "to slim");
    for (name, measured) in &rows[..4] {
        let (wall, cpu, memory) =
            (middle(measured, |it| it.seconds), middle(measured, |it| it.cpu), middle(measured, |it| it.memory));
        println!(
            "{name:<22} {:>26} {:>8.0} {:>12} {:>12} {:>9.2}",
            spread(&mut seconds(measured)),
            megabytes / wall,
            or_unknown(megabytes / cpu),
            or_unknown(memory),
            wall / base,
        );
    }
    println!("\ntime to the end of the first process, seconds");
    for (cold, warm) in [(0, 4), (1, 5)] {
        let (mut cold_seconds, mut warm_seconds) = (seconds(&rows[cold].1), seconds(&rows[warm].1));
        let ratio = median(&mut cold_seconds) / median(&mut warm_seconds);
        let name = rows[cold].0;
        println!("{name:<22} cold {}, warm {}, {ratio:.0} to 1", spread(&mut cold_seconds), spread(&mut warm_seconds));
    }
    Ok(())
}

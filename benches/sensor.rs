//! What being observed costs: CPU time and wall time of five workloads, as ratios to a run without a sensor, for
//! `slim --sensor notify` and `--sensor full`, and as references for a monitor that looks at nothing (`benches/sensor/floor.c`: what
//! the kernel takes for its notifications, so the least that is possible in this way) and for `strace -f --seccomp-bpf`.
//!
//! All of them take turns, so that what else the machine does hits all alike; what counts is the median of the turns'
//! ratios. CPU time is that of the whole container (its cgroup), thus of the program and of what observes it. It is read by
//! `benches/sensor/measure.c` inside the container, when nothing is left to be done. The requests come from here, where
//! their cost counts for nobody.
//!
//! `cargo bench --bench sensor`, or `cargo bench --bench sensor -- TURNS`; needs a Docker daemon that has no other work, a
//! C compiler, and `mmdebstrap` for the image, which is made once.

#![expect(clippy::print_stdout, reason = "this is what a bench is for")]

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::{Result, docker, median, run, spread};

/// Turns of each where nothing else is said.
const TURNS: usize = 5;
/// A workload that has not ended by now won't.
const PATIENCE: Duration = Duration::from_secs(300);
/// What is measured.
const IMAGE: &str = "slim-bench/sensor:1";
/// Where the container tells its figures.
const FIGURES: u16 = 81;
/// Requests to nginx: connections, and how many each of them makes.
const REQUESTS: (usize, usize) = (8, 2_500);

/// The workloads: name, in words, and the ratios of CPU time that `notify` and `full` are not to exceed.
const WORKLOADS: [(&str, &str, [f64; 2]); 5] = [
    ("files", "stat, open, close", [4.0, 5.7]),
    ("python", "500 imports in Python", [1.75, 2.0]),
    ("find", "find / -xdev", [3.4, 4.1]),
    ("execute", "execute /bin/true", [1.15, 1.25]),
    ("nginx", "nginx, a request", [1.9, 2.5]),
];

/// Who observes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Observer {
    Nobody,
    Slim(&'static str),
    Floor,
    Strace,
}

const OBSERVERS: [(Observer, &str); 4] = [
    (Observer::Slim("notify"), "slim --sensor notify"),
    (Observer::Slim("full"), "slim --sensor full"),
    (Observer::Floor, "notified, without a look"),
    (Observer::Strace, "strace -f --seccomp-bpf"),
];

/// CPU time and wall time of each workload, in seconds.
type Figures = [(f64, f64); WORKLOADS.len()];

fn main() -> Result<()> {
    // `cargo test --all-targets` starts benches too, without this.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let turns = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(TURNS);
    make_image()?;
    let mut nobody: Vec<Figures> = vec![];
    let mut observed: Vec<Vec<Figures>> = vec![vec![]; OBSERVERS.len()];
    for _ in 0..turns {
        nobody.push(measure(Observer::Nobody)?);
        for (figures, (observer, _)) in observed.iter_mut().zip(OBSERVERS) {
            figures.push(measure(observer)?);
        }
    }
    run(&mut docker(&["rmi", "slim-bench/sensor.slim:1"]))?;
    println!("{turns} turns each; median (least to most), in seconds and as ratios to no observer");
    for (workload, (_, words, limits)) in WORKLOADS.iter().enumerate() {
        let mut seconds: Vec<f64> = nobody.iter().map(|figures| figures[workload].0).collect();
        println!("\n{words}: CPU {} s without an observer", spread(&mut seconds));
        for (number, (figures, (_, name))) in observed.iter().zip(OBSERVERS).enumerate() {
            let ratios = |part: fn(&(f64, f64)) -> f64| -> Vec<f64> {
                figures.iter().zip(&nobody).map(|(with, without)| part(&with[workload]) / part(&without[workload])).collect()
            };
            let (mut cpu, mut wall) = (ratios(|figure| figure.0), ratios(|figure| figure.1));
            let verdict = match limits.get(number) {
                Some(limit) if median(&mut cpu) > *limit => format!(", MORE than {limit}"),
                Some(limit) => format!(", at most {limit}"),
                None => String::new(),
            };
            println!("  {name:<24} CPU {}{verdict}; wall {}", spread(&mut cpu), spread(&mut wall));
        }
    }
    Ok(())
}

/// Makes the image: the tools, and what belongs to this bench.
fn make_image() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    run(Command::new(root.join("tests/debian-image")).args(["tools", "slim-bench/tools:1"]))?;
    let (sources, context) = (root.join("benches/sensor"), tempfile::tempdir()?);
    for name in ["Dockerfile", "modules.py", "nginx.conf"] {
        std::fs::copy(sources.join(name), context.path().join(name))?;
    }
    std::fs::write(context.path().join("index.html"), "x".repeat(1024))?;
    for program in ["measure", "floor"] {
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-static", "-w", "-o"]).arg(context.path().join(program)).arg(sources.join(format!("{program}.c")));
        run(&mut compiler)?;
    }
    run(docker(&["build", "--quiet", "--tag", IMAGE]).arg(context.path())).map(drop)
}

/// Runs all workloads once.
fn measure(observer: Observer) -> Result<Figures> {
    let (label, folder) = (format!("slim-bench={}", std::process::id()), tempfile::tempdir()?);
    let mut command = match observer {
        Observer::Nobody => docker(&["run", "--rm", "--label", &label, IMAGE]),
        Observer::Floor => docker(&["run", "--rm", "--label", &label, IMAGE, "/bench/floor", "/bench/measure"]),
        Observer::Strace => {
            let strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "/bench/measure"];
            let mut command = docker(&["run", "--rm", "--cap-add", "SYS_PTRACE", "--label", &label, IMAGE]);
            command.args(strace);
            command
        }
        Observer::Slim(senses) => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_slim"));
            command.args(["build", IMAGE, "--quiet", "--http-probe=false", "--continue-after", "app-exit"]);
            command.args(["--verify=off", "--sensor", senses, "--label", &label]);
            command
        }
    };
    let running = Running::start(command.current_dir(folder.path()), label)?;
    let figures = running.figures();
    if figures.is_err() {
        running.kill()?;
    }
    let ended = running.end();
    let figures = figures?;
    ended.map(|()| figures)
}

/// A container that is measured, and who runs it.
struct Running {
    process: Child,
    label: String,
}

impl Running {
    fn start(command: &mut Command, label: String) -> Result<Running> {
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        Ok(Running { process, label })
    }

    fn figures(&self) -> Result<Figures> {
        let address = self.address()?;
        let before = ask(address, b'?')?;
        let begun = Instant::now();
        load(address)?;
        let wall = begun.elapsed().as_secs_f64();
        let after = ask(address, b'q')?;
        let mut figures = Figures::default();
        for (figure, (workload, ..)) in figures.iter_mut().zip(WORKLOADS) {
            let of =
                |figures: &[(String, (f64, f64))]| figures.iter().find(|(name, _)| name == workload).map(|(_, figure)| *figure);
            let (before, after) = of(&before).zip(of(&after)).ok_or_else(|| format!("no figures of {workload}"))?;
            *figure = if workload == "nginx" { (after.0 - before.0, wall) } else { after };
        }
        Ok(figures)
    }

    /// The containers that there are of it.
    fn containers(&self) -> Result<String> {
        run(&mut docker(&["ps", "--quiet", "--filter", &format!("label={}", self.label)]))
    }

    fn kill(&self) -> Result<()> {
        self.containers()?.lines().try_for_each(|id| run(&mut docker(&["kill", id])).map(drop))
    }

    /// The address of the container, once it tells its figures and nginx listens.
    fn address(&self) -> Result<IpAddr> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(100));
            let ids = self.containers()?;
            let Some(id) = ids.lines().next() else { continue };
            let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
            let address = run(&mut docker(&["inspect", "--format", format, id]))?;
            let Ok(address) = address.parse() else { continue };
            if [FIGURES, 80].into_iter().all(|port| TcpStream::connect(SocketAddr::new(address, port)).is_ok()) {
                return Ok(address);
            }
        }
        Err("the workloads do not end".into())
    }

    /// Waits for the end, in which nothing may have failed.
    fn end(self) -> Result<()> {
        let output = self.process.wait_with_output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
        }
    }
}

/// The figures of the workloads, in seconds, by name; the last is the container's CPU time until now.
fn ask(address: IpAddr, order: u8) -> Result<Vec<(String, (f64, f64))>> {
    let mut stream = TcpStream::connect(SocketAddr::new(address, FIGURES))?;
    stream.write_all(&[order])?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let figures = text.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, cpu, wall] = words[..] else { return Err(format!("no figures: {line}").into()) };
        Ok((name.to_owned(), (cpu.parse::<f64>()? / 1e9, wall.parse::<f64>()? / 1e9)))
    });
    figures.collect()
}

/// Makes requests over connections that are kept.
fn load(address: IpAddr) -> Result<()> {
    let (connections, requests) = REQUESTS;
    let workers: Vec<_> = (0..connections).map(|_| thread::spawn(move || request(address, requests))).collect();
    workers.into_iter().try_for_each(|worker| match worker.join() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err("a connection panicked".into()),
    })
}

fn request(address: IpAddr, requests: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(SocketAddr::new(address, 80))?;
    let mut answer = [0; 4096];
    for _ in 0..requests {
        stream.write_all(b"GET /index.html HTTP/1.1\r\nHost: bench\r\n\r\n")?;
        let mut length = 0;
        while !is_whole(&answer[..length]) {
            match stream.read(&mut answer[length..])? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                more => length += more,
            }
        }
    }
    stream.shutdown(Shutdown::Both)
}

/// Whether an answer is complete: the page has 1,024 bytes.
fn is_whole(answer: &[u8]) -> bool {
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    answer.starts_with(b"HTTP/1.1 200") && head.is_some_and(|head| answer.len() == head + 4 + 1024)
}

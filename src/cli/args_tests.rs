//! What clap makes of command lines.

use super::*;

fn build(words: &str) -> Result<(GeneralArgs, BuildArgs), clap::Error> {
    let cli = Cli::read(["slim"].into_iter().chain(words.split_whitespace()))?;
    let Verb::Build(build) = cli.verb else { panic!("not `build`") };
    Ok((cli.general, *build))
}

/// Says what clap says, without its usage lines.
fn complaint(words: &str) -> String {
    let error = build(words).unwrap_err().to_string();
    error.split("\n\n").next().unwrap_or_default().to_owned()
}

#[test]
fn clap_finds_no_fault() {
    Cli::complete_command().debug_assert();
}

#[test]
fn the_help_is_as_it_was() {
    for verb in ["build", "verify"] {
        let mut command = Cli::complete_command().term_width(HELP_WIDTH);
        let help = command.try_get_matches_from_mut(["slim", verb, "--help"]).unwrap_err().to_string();
        let path = format!("{}/src/cli/testdata/{verb}-help.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &help).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        assert!(help == golden, "UPDATE_GOLDEN=1 takes this as the new help:\n{help}");
    }
}

#[test]
fn the_image_is_named_once() {
    assert_eq!(build("build app").unwrap().1.target.image.as_deref(), Some("app"));
    assert_eq!(build("b --target app").unwrap().1.target.target.as_deref(), Some("app"));
    assert_eq!(complaint("build"), "error: the following required arguments were not provided:\n  <IMAGE>");
    assert_eq!(complaint("build --target app app"), "error: the argument '--target <IMAGE>' cannot be used with '[IMAGE]'");
    assert_eq!(complaint("build app other"), "error: unexpected argument 'other' found");
}

#[test]
fn switches_stand_alone_or_take_a_value() {
    for (words, expected) in [
        ("build app", None),
        ("build --http-probe app", Some(true)),
        ("build app --http-probe", Some(true)),
        ("build app --http-probe=true", Some(true)),
        ("build app --http-probe=false", Some(false)),
        ("build app --http-probe --http-probe=false", Some(false)),
    ] {
        assert_eq!(build(words).unwrap().1.probes.http_probe, expected, "{words}");
    }
    for name in SWITCHES {
        let flag = name.replace('_', "-");
        for words in [format!("build --{flag} app"), format!("build --{flag}=false app")] {
            assert_eq!(build(&words).unwrap().1.target.image.as_deref(), Some("app"), "{words}");
        }
    }
    assert_eq!(
        complaint("build app --http-probe=maybe"),
        "error: invalid value 'maybe' for '--http-probe[=<BOOL>]'\n  [possible values: true, false]"
    );
    assert_eq!(
        complaint("build app --http-probe --http-probe-off"),
        "error: the argument '--http-probe[=<BOOL>]' cannot be used with '--http-probe-off[=<BOOL>]'"
    );
}

#[test]
fn the_last_of_a_flag_counts_and_lists_grow() {
    let (_, args) = build("build app --user a --user b --tag x --tag y --http-probe-ports 80,81 --http-probe-ports 82").unwrap();
    assert_eq!(args.container.user.as_deref(), Some("b"));
    assert_eq!(args.output.tag, ["x", "y"]);
    assert_eq!(args.probes.http_probe_ports, [80, 81, 82]);
}

#[test]
fn defaults() {
    let (general, args) = build("build app").unwrap();
    assert_eq!(general.output_format, OutputFormat::Text);
    let probes = args.probes;
    assert_eq!(probes.http_crawl_exclude, ["/logout", "/delete"]);
    assert_eq!((probes.http_crawl_max_depth, probes.http_crawl_max_page_count, probes.http_crawl_concurrency), (3, 1000, 10));
    assert_eq!((probes.http_crawl_timeout, probes.start_timeout), (Duration::from_secs(60), Duration::from_secs(60)));
    assert_eq!(args.keep.keep_looked_at, KeepLookedAt::Checked);
    assert_eq!(args.output.report, PathBuf::from("slim.report.json"));
    let (_, args) = build("build app --http-crawl-exclude /admin").unwrap();
    assert_eq!(args.probes.http_crawl_exclude, ["/admin"]);
}

#[test]
fn general_flags_stand_before_or_after_the_verb() {
    for words in ["--verbose --output-format json build app", "build app --verbose --output-format json"] {
        let (general, _) = build(words).unwrap();
        assert!(general.verbose && general.output_format == OutputFormat::Json, "{words}");
    }
    assert_eq!(complaint("build app -q -v"), "error: the argument '--quiet' cannot be used with '--verbose'");
}

#[test]
fn docker_slims_names_are_known() {
    let words = "build app --etc-hosts-map db:10.0.0.5 --container-dns 1.1.1.1 --cro-shm-size 1 --cro-runtime runc";
    let container = build(words).unwrap().1.container;
    assert_eq!((container.add_host.len(), container.dns.len()), (1, 1));
    assert_eq!((container.shm_size.as_deref(), container.runtime.as_deref()), (Some("1"), Some("runc")));
}

#[test]
fn secrets_come_in_pairs_and_are_not_shown() {
    let (_, args) = build("build app --registry-account me --registry-secret hunter2 --env A=hunter2").unwrap();
    assert_eq!(args.target.registry.registry_secret, Some(Secret("hunter2".into())));
    assert!(!format!("{args:?}").contains("hunter2"));
    for (words, missing) in [
        ("build app --registry-account me", "--registry-secret <SECRET>"),
        ("build app --registry-secret hunter2", "--registry-account <NAME>"),
    ] {
        assert_eq!(complaint(words), format!("error: the following required arguments were not provided:\n  {missing}"));
    }
}

#[test]
fn numbers_and_durations_that_are_none() {
    for (words, message) in [
        ("--http-probe-ports 0", "error: invalid value '0' for '--http-probe-ports <PORT,...>': 0 is not in 1..=65535"),
        ("--http-crawl-concurrency 0", "error: invalid value '0' for '--http-crawl-concurrency <COUNT>': 0 is not in 1..=256"),
        (
            "--start-timeout soon",
            "error: invalid value 'soon' for '--start-timeout <DURATION>': a duration is a number of seconds, or a \
             number with `ms`, `s`, `m` or `h`, such as `1500ms`",
        ),
        (
            "--keep-looked-at some",
            "error: invalid value 'some' for '--keep-looked-at <WHAT>'\n  [possible values: none, checked, listed, all]",
        ),
    ] {
        assert_eq!(complaint(&format!("build app {words}")), message, "{words}");
    }
}

#[test]
fn sizes_of_the_cache() {
    let verb = |words: &str| Cli::read(["slim"].into_iter().chain(words.split_whitespace())).map(|cli| cli.verb);
    let Ok(Verb::Run(run)) = verb("run --cache-size 1g --cache-size 5m oci:a") else { panic!() };
    assert_eq!((run.cache.cache_size, run.max_unpacked_size), (5 << 20, 100 << 30));
    let (_, args) = build("build oci:a --cache-size 0").unwrap();
    assert_eq!(args.target.cache.cache_size, 0);
    assert!(complaint("build oci:a --cache-size much").contains("a size is a number and a unit"));
    for (words, keep) in [("cache prune", 0), ("cache prune --keep 2g", 2 << 30)] {
        let Ok(Verb::Cache(CacheArgs { action: Some(crate::cli::cache::CacheAction::Prune { keep: found }) })) = verb(words)
        else {
            panic!()
        };
        assert_eq!(found, keep);
    }
    assert!(matches!(verb("cache"), Ok(Verb::Cache(CacheArgs { action: None }))));
    assert!(verb("cache nonsense").is_err());
}

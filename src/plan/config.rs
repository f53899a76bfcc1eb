//! What the image's configuration names: its programs, its working directory, its volumes.
//!
//! They are kept also when the observed run overrode them, as the slim image has the same configuration and will be
//! started by it. Programs are found as the runtime finds them: by path, or in the directories of the configuration's
//! `PATH`. A shell's `-c` keeps the shell and the command's first word. What needs the libraries looked up is only what
//! was not executed in the observed run: there the loader was seen to open them.

use std::borrow::Cow;

use super::draft::Draft;
use super::format::Reason;
use super::resolve::{Resolution, View};
use crate::image::tree::{EntryId, Kind, Tree};
use crate::observe::observation::Access;
use crate::observe::observation::Spelling;

/// The part of an image's configuration that a plan depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigView {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Healthcheck.Test`, such as `["CMD-SHELL", "curl -f localhost"]`.
    pub healthcheck: Option<Vec<String>>,
    /// `Shell`; empty means `/bin/sh -c`.
    pub shell: Vec<String>,
    /// `WorkingDir`; empty means `/`.
    pub working_dir: Vec<u8>,
    /// `Volumes`.
    pub volumes: Vec<Vec<u8>>,
    /// `Env`, split at the first `=`.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What Docker sets where an image has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Shells whose `-c` takes a command.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"];

impl ConfigView {
    /// The value of an environment variable; the last one counts.
    pub(super) fn variable(&self, name: &[u8]) -> Option<&[u8]> {
        self.env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| &value[..])
    }

    /// The directories in which programs are looked for.
    fn path(&self) -> impl Iterator<Item = &[u8]> {
        let path = self.variable(b"PATH").filter(|path| !path.is_empty()).unwrap_or(DEFAULT_PATH);
        path.split(|&byte| byte == b':')
    }

    /// The working directory as an absolute path.
    pub(super) fn directory(&self) -> Cow<'_, [u8]> {
        if self.working_dir.starts_with(b"/") {
            Cow::Borrowed(&self.working_dir)
        } else {
            [b"/", &self.working_dir[..]].concat().into()
        }
    }

    /// Finds a program as `execvp` would: the path by which it is reached, and where that leads.
    pub(super) fn find_program(&self, tree: &Tree, name: &[u8]) -> Option<(Vec<u8>, Resolution, EntryId)> {
        let directory = self.directory();
        let absolute = |base: &[u8], path: &[u8]| Spelling { root: b"", base, path }.joined();
        let in_directory = |path: &[u8]| absolute(&directory, path);
        let candidates: Vec<Vec<u8>> = match name {
            b"" => vec![],
            _ if name.contains(&b'/') => vec![in_directory(name)],
            _ => self.path().map(|entry| absolute(&in_directory(entry), name)).collect(),
        };
        candidates.into_iter().find_map(|path| {
            let resolution = View::of(tree).resolve(Spelling::absolute(&path), true);
            let id = resolution.found().filter(|&id| tree.kind(id) == Kind::File && tree.mode(id) & 0o111 != 0)?;
            Some((path, resolution, id))
        })
    }
}

/// Keeps all that the configuration names.
pub(super) fn keep(draft: &mut Draft, config: &ConfigView) {
    let mut programs: Vec<(&str, &[u8])> = vec![];
    name_programs(&mut programs, "Entrypoint", &config.entrypoint);
    name_programs(&mut programs, "Cmd", &config.cmd);
    let shell: Vec<String> = if config.shell.is_empty() { vec!["/bin/sh".into(), "-c".into()] } else { config.shell.clone() };
    let mut check = vec![];
    match config.healthcheck.as_deref() {
        Some([kind, command @ ..]) if kind == "CMD" => check = command.to_vec(),
        Some([kind, command @ ..]) if kind == "CMD-SHELL" => check = [&shell, command].concat(),
        _ => {}
    }
    name_programs(&mut programs, "Healthcheck", &check);
    for (field, name) in programs {
        let Some((path, resolution, id)) = config.find_program(draft.tree, name) else { continue };
        let was_executed = draft.reasons(id).iter().any(|reason| matches!(reason, Reason::Used { access: Access::Exec, .. }));
        draft.keep_passed(&resolution, Spelling::absolute(&path));
        draft.keep(id, Reason::Config { field: field.into() });
        draft.run(id, !was_executed);
    }
    draft.keep_path(&config.directory(), Reason::Config { field: "WorkingDir".into() });
    for volume in &config.volumes {
        draft.keep_path(volume, Reason::Config { field: "Volumes".into() });
    }
}

/// The words of a command that can name programs: the first, absolute paths (`tini -- /app/run`), a shell's command.
fn name_programs<'a>(programs: &mut Vec<(&'a str, &'a [u8])>, field: &'a str, words: &'a [String]) {
    let Some(first) = words.first() else { return };
    programs.push((field, first.as_bytes()));
    programs.extend(words[1..].iter().filter(|word| word.starts_with('/')).map(|word| (field, word.as_bytes())));
    let name = first.rsplit('/').next().unwrap_or_default();
    if !SHELLS.contains(&name) {
        return;
    }
    let takes_command = |word: &String| word.starts_with('-') && !word.starts_with("--") && word.contains('c');
    if let Some(command) = words.iter().skip_while(|word| !takes_command(word)).nth(1) {
        programs.extend(first_command(command).map(|name| (field, name.as_bytes())));
    }
}

/// The program that a shell's command starts with; `None` where that takes more of a shell than splitting words.
fn first_command(command: &str) -> Option<&str> {
    let is_assignment = |word: &str| word.split_once('=').is_some_and(|(name, _)| !name.contains('/'));
    let mut words = command.split_whitespace().skip_while(|word| *word == "exec" || is_assignment(word));
    let word = words.next()?.trim_end_matches(';');
    (!word.contains(['$', '`', '"', '\'', '(', ')', '{', '}', '|', '&', '<', '>', '*', '?', '\\', ';'])).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::fixture;
    use crate::plan::testing::{Case, observation};

    fn words(text: &str) -> Vec<String> {
        text.split(',').filter(|word| !word.is_empty()).map(String::from).collect()
    }

    #[test]
    fn programs_are_found_as_the_runtime_finds_them() {
        let tree = fixture::tree(&[
            "/bin -> usr/bin",
            "/usr/bin/sh -> dash",
            "/usr/bin/dash mode=755",
            "/usr/bin/server mode=755",
            "/usr/bin/not-executable",
            "/usr/local/bin/server -> /opt/server",
            "/opt/server mode=755",
            "/app/run mode=755",
            "/app/data",
        ]);
        let shell = ["/bin", "/usr", "/usr/bin", "/usr/bin/dash", "/usr/bin/sh"];
        for (entrypoint, cmd, env, expected) in [
            ("server", "", "", &["/opt", "/opt/server", "/usr", "/usr/local", "/usr/local/bin", "/usr/local/bin/server"][..]),
            ("server", "", "/nowhere:/usr/bin", &["/usr", "/usr/bin", "/usr/bin/server"]),
            ("/usr/bin/server", "--run", "", &["/usr", "/usr/bin", "/usr/bin/server"]),
            ("./run", "", "", &["/app/run"]),
            ("run", "", ".", &["/app/run"]),
            ("not-executable", "", "", &[]),
            ("missing", "", "", &[]),
            ("/app", "", "", &[]),
            ("", "data", "", &[]),
            ("/nothing,--,/app/run", "", "", &["/app/run"]),
            ("", "/bin/sh,-c,A=b exec /app/run --x", "", &[&["/app/run"], &shell[..]].concat()),
            ("", "sh,-ec,$0 run", "/bin", &shell),
        ] {
            let mut case = Case::new(&tree);
            case.config.entrypoint = words(entrypoint);
            case.config.cmd = words(cmd);
            case.config.working_dir = b"/app".to_vec();
            case.config.env = vec![(b"PATH".to_vec(), env.into())];
            assert_eq!(case.kept(), [&["/app"], expected].concat(), "{entrypoint} {cmd} {env}");
        }
    }

    #[test]
    fn health_checks_name_programs_too() {
        let tree = fixture::tree(&["/bin/sh mode=755", "/bin/bash mode=755", "/bin/check mode=755"]);
        for (test, shell, expected) in [
            ("CMD,check,-q", "", &["/bin", "/bin/check"][..]),
            ("CMD-SHELL,check || exit 1", "", &["/bin", "/bin/check", "/bin/sh"]),
            ("CMD-SHELL,check", "/bin/bash,-lc", &["/bin", "/bin/bash", "/bin/check"]),
            ("NONE", "", &[]),
            ("", "", &[]),
        ] {
            let mut case = Case::new(&tree);
            case.config.healthcheck = Some(words(test));
            case.config.shell = words(shell);
            assert_eq!(case.kept(), expected, "{test}");
        }
    }

    #[test]
    fn directories_of_the_configuration_are_kept_empty() {
        let tree = fixture::tree(&["/srv/app/file", "/data/seed", "/link -> /data", "/data/other"]);
        let mut case = Case::new(&tree);
        case.config.working_dir = b"srv/app".to_vec();
        case.config.volumes = vec![b"/link".to_vec(), b"/not/there".to_vec()];
        assert_eq!(case.kept(), ["/data", "/link", "/srv", "/srv/app"]);
    }

    #[test]
    fn libraries_of_what_was_executed_are_not_looked_up() {
        let tree = fixture::tree(&["/bin/app mode=755"]);
        let app = tree.get(b"/bin/app").expect("app");
        for (uses, libraries) in [(&[][..], true), (&[(Access::Exec, "/bin/app")], false), (&[(Access::Open, "/bin/app")], true)]
        {
            let mut draft = Draft::new(&tree);
            crate::plan::observed::keep(&mut draft, &observation(uses), super::super::KeepLookedAt::Checked, b"");
            keep(&mut draft, &ConfigView { cmd: words("/bin/app"), ..ConfigView::default() });
            assert_eq!(draft.next_programs(9), [(app, libraries)], "{uses:?}");
        }
    }
}

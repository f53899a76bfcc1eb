//! Files that slim writes for the user: whole, or not at all.
//!
//! A report or an observation that breaks off in the middle would be taken for the real one by whoever reads it next, and
//! the one of the last run would be gone. So the content goes to a temporary file in the same folder, which then takes the
//! name. It is not forced to the disk: after a loss of power the run is repeated, and its files with it.
//!
//! What isn't a regular file can't be replaced, and is written to as it is: `/dev/stderr`, a FIFO, the shell's
//! `>(command)`. Standard output (`-`, `/dev/stdout`) is written to through our own handle, so that what else is printed
//! there stays, also where the shell has redirected it to a file.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Makes what `write` writes the content of the file at `path`.
///
/// A new file has the mode that the umask leaves of 0666; an existing one keeps its own, and a symbolic link to it stays.
///
/// # Errors
/// The system's, without the path, and those of `write`. What was at `path` is unharmed then, where it is a regular file.
pub fn write_file_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    if path == Path::new("-") || path == Path::new("/dev/stdout") {
        return write_buffered(&mut io::stdout().lock(), write);
    }
    match fs::metadata(path) {
        Ok(existing) if existing.is_file() => replace(&fs::canonicalize(path)?, Some(existing.permissions()), write),
        Ok(_) => write_buffered(&mut File::options().write(true).open(path)?, write),
        Err(error) if error.kind() == io::ErrorKind::NotFound => replace(path, None, write),
        Err(error) => Err(error),
    }
}

fn write_buffered(out: &mut dyn Write, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    write(&mut out)?;
    out.flush()
}

fn replace(
    path: &Path,
    permissions: Option<Permissions>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    // A bare name is in the working directory.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(PathBuf::from("."), Path::to_owned);
    // Made by us, not by the crate, which would give it the mode of a secret.
    let create = |path: &Path| File::options().write(true).create_new(true).open(path);
    let mut temporary = tempfile::Builder::new().prefix(".slim-").suffix(".tmp").make_in(folder, create)?;
    write_buffered(temporary.as_file_mut(), write)?;
    if let Some(permissions) = permissions {
        temporary.as_file().set_permissions(Permissions::from_mode(permissions.mode() & 0o777))?;
    }
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_file_is_like_any_other() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, other) = (folder.path().join("ours"), folder.path().join("other"));
        write_file_atomically(&ours, |out| out.write_all(b"whole")).unwrap();
        fs::write(&other, "").unwrap();
        assert_eq!(fs::read(&ours).unwrap(), b"whole");
        assert_eq!(fs::metadata(&ours).unwrap().permissions(), fs::metadata(&other).unwrap().permissions());
        assert_eq!(names(folder.path()), ["other", "ours"]);
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        let error = write_file_atomically(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("no more"))
        });
        assert_eq!(error.unwrap_err().to_string(), "no more");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn an_existing_file_keeps_its_mode_and_the_links_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o4600)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        write_file_atomically(&link, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn what_is_no_regular_file_is_written_to() {
        use std::os::fd::AsRawFd;
        let (mut reader, writer) = io::pipe().unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", writer.as_raw_fd()));
        write_file_atomically(&path, |out| out.write_all(b"through the pipe")).unwrap();
        drop(writer);
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "through the pipe");
        write_file_atomically(Path::new("/dev/null"), |out| out.write_all(b"gone")).unwrap();
    }

    #[test]
    fn errors_are_the_systems_own() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| write_file_atomically(path, |_| Ok(())).unwrap_err().to_string();
        assert_eq!(error(&folder.path().join("missing/file")), "No such file or directory (os error 2)");
        assert_eq!(error(folder.path()), "Is a directory (os error 21)");
        let full = write_file_atomically(Path::new("/dev/full"), |out| out.write_all(b"lost")).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }
}

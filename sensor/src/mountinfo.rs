//! What is mounted, as /proc/PID/mountinfo tells it (see proc(5)): a line for each mount that is below the process's root.

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mount {
    /// As statx(2) names it for a file that was opened through the mount.
    pub(crate) id: u64,
    /// The mount that it is in.
    pub(crate) parent: u64,
    /// Of the file system: `MAJOR:MINOR`.
    pub(crate) device: Vec<u8>,
    /// The directory of the file system that it shows.
    pub(crate) root: Vec<u8>,
    /// Where it shows that, seen from the process's root.
    pub(crate) point: Vec<u8>,
    /// What happens in it is propagated to peers.
    pub(crate) is_shared: bool,
    /// The file system's type.
    pub(crate) kind: Vec<u8>,
}

/// Reads `mountinfo`: `36 35 98:0 /mnt1 /mnt2 rw,noatime shared:1 - ext3 /dev/root rw`. Passes over what is no such line.
pub(crate) fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut number = || str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let (device, root, point) = (fields.next()?.to_vec(), unescape(fields.next()?), unescape(fields.next()?));
    let mut is_shared = false;
    for optional in fields.by_ref().skip(1).take_while(|field| *field != b"-") {
        is_shared |= optional.starts_with(b"shared:");
    }
    Some(Mount { id, parent, device, root, point, is_shared, kind: fields.next()?.to_vec() })
}

/// The kernel writes space, tab, newline, `#` and backslash as a backslash with three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => bytes.push(byte),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let text = b"78 53 0:39 / / rw,relatime master:2 - overlay overlay rw,lowerdir=a:b\n\
            95 78 254:0 /x/hosts /etc/hosts rw - ext4 /dev/vda rw\n\
            99 78 254:0 /v\\040w /a\\040b\\011\\012\\134040\\777 rw,relatime shared:5 master:1 - ext4 shared:9 rw\n\
            97 78 254:0 /v /plain rw - shared:7 shared:8 rw\n\
            \n\
            damaged line\n\
            1 2 3:4 / /cut rw\n\
            1 2 3";
        let mounts = parse(text);
        let points: Vec<&[u8]> = mounts.iter().map(|mount| &mount.point[..]).collect();
        assert_eq!(points, [&b"/"[..], b"/etc/hosts", b"/a b\t\n\\040\\777", b"/plain"]);
        assert_eq!((mounts[0].id, mounts[0].parent, &mounts[0].device[..]), (78, 53, &b"0:39"[..]));
        assert_eq!((&mounts[1].root[..], &mounts[2].root[..]), (&b"/x/hosts"[..], &b"/v w"[..]));
        let shared: Vec<bool> = mounts.iter().map(|mount| mount.is_shared).collect();
        assert_eq!(shared, [false, false, true, false], "only the optional fields tell");
        let kinds: Vec<&[u8]> = mounts.iter().map(|mount| &mount.kind[..]).collect();
        assert_eq!(kinds, [&b"overlay"[..], b"ext4", b"ext4", b"shared:7"]);
    }
}

//! Where two archives of images differ: the words for a fault that should never come.

use std::io::{self, BufReader, Read, Seek};

use crate::escape::escape;

/// The first member in which two archives differ, in words; `None` where they are the same. A layer is looked into.
///
/// # Errors
/// Of reading.
pub fn first_difference(mut one: impl Read + Seek, mut other: impl Read + Seek) -> io::Result<Option<String>> {
    one.rewind()?;
    other.rewind()?;
    differ(&mut BufReader::new(one), &mut BufReader::new(other), 1)
}

/// `depth`: how many archives within archives are looked into.
fn differ<'a>(one: &'a mut (dyn Read + 'a), other: &'a mut (dyn Read + 'a), depth: u32) -> io::Result<Option<String>> {
    let (mut archives, mut others) = (tar::Archive::new(one), tar::Archive::new(other));
    let (mut one, mut other) = (archives.entries()?, others.entries()?);
    loop {
        let (mut first, mut second) = match (one.next().transpose()?, other.next().transpose()?) {
            (None, None) => return Ok(None),
            (Some(first), Some(second)) => (first, second),
            (Some(only), None) | (None, Some(only)) => {
                return Ok(Some(format!("only one of them has `{}`", escape(&only.path_bytes()))));
            }
        };
        let name = escape(&first.path_bytes());
        if first.header().as_bytes() != second.header().as_bytes() || first.path_bytes() != second.path_bytes() {
            let other_name = escape(&second.path_bytes());
            return Ok(Some(format!("the headers of `{name}` and `{other_name}` differ, at the same place of both")));
        }
        let difference = if depth > 0 && name.ends_with(".tar") {
            differ(&mut first, &mut second, depth - 1)?
        } else {
            content(&mut first, &mut second)?.then(|| format!("the content of `{name}` differs"))
        };
        if difference.is_some() {
            return Ok(difference);
        }
    }
}

fn content(one: &mut impl Read, other: &mut impl Read) -> io::Result<bool> {
    let (mut first, mut second) = (BufReader::new(one).bytes(), BufReader::new(other).bytes());
    loop {
        match (first.next().transpose()?, second.next().transpose()?) {
            (None, None) => return Ok(false),
            (one, other) if one != other => return Ok(true),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(vec![]);
        for (name, content) in members {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn the_first_difference_is_named() {
        let plain = archive(&[("a", b"1"), ("b", b"22")]);
        let layer = |content: &[u8]| archive(&[("layer.tar", &archive(&[("etc/x", content)])), ("config.json", b"{}")]);
        for (one, other, expected) in [
            (plain.clone(), plain.clone(), None),
            (plain.clone(), archive(&[("a", b"1"), ("b", b"23")]), Some("the content of `b` differs")),
            (plain.clone(), archive(&[("a", b"1")]), Some("only one of them has `b`")),
            (plain, archive(&[("a", b"1"), ("c", b"22")]), Some("the headers of `b` and `c` differ, at the same place of both")),
            (layer(b"1"), layer(b"2"), Some("the content of `etc/x` differs")),
        ] {
            let found = first_difference(io::Cursor::new(one), io::Cursor::new(other)).unwrap();
            assert_eq!(found.as_deref(), expected);
        }
    }
}

//! What each spelling of a mount becomes.

use super::*;

#[test]
fn volumes() {
    for text in ["/host:/x", "/host:/x:ro", "/host:/x:ro,z", "data:/x", "data:/x:nocopy"] {
        assert_eq!(parse_volume(text), Ok(MountRequest::Bind(text.into())), "{text}");
    }
    assert_eq!(parse_volume("/x"), Ok(MountRequest::Anonymous("/x".into())));
    let form = "a volume is written `HOST_PATH_OR_NAME:PATH[:OPTIONS]`, or `PATH` alone for a fresh one";
    for (text, message) in [
        ("", "the path `` in the container is not absolute"),
        ("data", "the path `data` in the container is not absolute"),
        ("/host:x", "the path `x` in the container is not absolute"),
        ("/host:/", "nothing can be mounted on the container's `/`"),
        ("/host://./", "nothing can be mounted on the container's `/`"),
        (":/x", form),
        ("/a:/b:ro:rw", form),
        ("./data:/x", "the host path `./data` is relative: write it in full, such as `\"$PWD/data\"`"),
        ("data/x:/x", "the host path `data/x` is relative: write it in full, such as `\"$PWD/data/x\"`"),
        ("~/data:/x", "the host path `~/data` is relative: write it in full, such as `\"$HOME/data\"`"),
        ("..:/x", "the host path `..` is relative: write it in full, such as `\"$PWD/..\"`"),
        ("d:/x", "`d` is neither an absolute path nor the name of a volume (letters, digits, `_`, `.`, `-`; at least two)"),
        (
            "/host:/x:readonly",
            "there is no volume option `readonly`; known are ro, rw, z, Z, nocopy, private, rprivate, shared, rshared, \
             slave, rslave, cached, consistent, delegated",
        ),
    ] {
        assert_eq!(parse_volume(text).unwrap_err().to_string(), message, "{text}");
    }
}

fn mount(text: &str) -> Mount {
    match parse_mount(text) {
        Ok(MountRequest::Mount(mount)) => *mount,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn docker_slim_mounts_are_binds() {
    for text in ["/host:/x:ro", "data:/x", "/host=1:/x"] {
        assert_eq!(parse_mount(text), Ok(MountRequest::Bind(text.into())), "{text}");
    }
}

#[test]
fn bind_mounts() {
    assert_eq!(
        mount("type=bind,source=/host,target=/x,readonly,bind-propagation=rslave,bind-nonrecursive=true"),
        Mount {
            typ: Some(MountType::BIND),
            source: Some("/host".into()),
            target: Some("/x".into()),
            read_only: Some(true),
            bind_options: Some(MountBindOptions {
                propagation: Some(MountBindOptionsPropagationEnum::RSLAVE),
                non_recursive: Some(true),
                ..MountBindOptions::default()
            }),
            ..Mount::default()
        }
    );
    assert_eq!(mount("type=bind,src=/host,dst=/x,ro=false").read_only, Some(false));
}

#[test]
fn volume_mounts() {
    let got = mount(
        "source=data,destination=/x,volume-nocopy,volume-label=a=b,volume-label=c,volume-driver=local,\
         \"volume-opt=o=addr=10.0.0.1,rw\",volume-opt=device=\"x\"",
    );
    assert_eq!(got.typ, Some(MountType::VOLUME));
    assert_eq!(got.source.as_deref(), Some("data"));
    let volume = got.volume_options.unwrap();
    assert_eq!(volume.no_copy, Some(true));
    assert_eq!(volume.labels.unwrap(), HashMap::from([("a".into(), "b".into()), ("c".into(), String::new())]));
    let driver = volume.driver_config.unwrap();
    assert_eq!(driver.name.as_deref(), Some("local"));
    assert_eq!(
        driver.options.unwrap(),
        HashMap::from([("o".into(), "addr=10.0.0.1,rw".into()), ("device".into(), "\"x\"".into())])
    );
    assert_eq!(mount("target=/x").source, None);
}

#[test]
fn tmpfs_mounts() {
    let got = mount("type=tmpfs,target=/x,tmpfs-size=64m,tmpfs-mode=1777");
    let options = got.tmpfs_options.unwrap();
    assert_eq!((options.size_bytes, options.mode), (Some(64 << 20), Some(0o1777)));
    assert_eq!(parse_tmpfs("/x").unwrap(), ("/x".into(), String::new()));
    assert_eq!(parse_tmpfs("/x:size=64m,mode=1777").unwrap(), ("/x".into(), "size=64m,mode=1777".into()));
    assert_eq!(parse_tmpfs("x").unwrap_err().to_string(), "the path `x` in the container is not absolute");
}

#[test]
fn mounts_that_are_none() {
    for (text, message) in [
        ("", "there is no field ``; the fields are"),
        ("/x", "a volume is written `HOST_PATH_OR_NAME:PATH[:OPTIONS]`"),
        ("type=bind", "the target is missing: add `target=PATH`"),
        ("type=bind,target=/x", "a mount of `type=bind` needs `source=PATH`"),
        ("type=bind,source,target=/x", "`source` needs a value: `source=...`"),
        ("type=bind,source=,target=/x", "`source` needs a value: `source=...`"),
        ("type=bind,source=./h,target=/x", "the host path `./h` is relative: write it in full, such as `\"$PWD/h\"`"),
        ("type=bind,source=/h,target=x", "the path `x` in the container is not absolute"),
        ("type=bind,source=/h,target=/x,tmpfs-size=1", "`tmpfs-size` does not go with `type=bind`"),
        ("source=data,target=/x,bind-nonrecursive", "`bind-nonrecursive` does not go with `type=volume`"),
        ("source=a/b,target=/x", "the host path `a/b` is relative: write it in full, such as `\"$PWD/a/b\"`"),
        ("type=tmpfs,source=/h,target=/x", "a mount of `type=tmpfs` takes no source"),
        ("type=npipe,target=/x", "`type=npipe` is not known: it must be `bind`, `volume` or `tmpfs`"),
        ("type=tmpfs,target=/x,tmpfs-size=x", "`tmpfs-size`: a size is a number and a unit"),
        ("type=tmpfs,target=/x,tmpfs-mode=8", "`tmpfs-mode=8` is not known: it must be an octal number"),
        ("type=tmpfs,target=/x,tmpfs-mode=17777", "`tmpfs-mode=17777` is not known: it must be an octal number"),
        ("target=/x,readonly=yes", "`readonly=yes`: the value must be `true` or `false`"),
        ("target=/x,color=red", "there is no field `color`; the fields are"),
        ("target=/x,", "there is no field ``; the fields are"),
        ("\"target=/x", "a `\"` is not closed"),
        ("\"target=/x\"y", "a `\"` is not closed"),
    ] {
        let got = parse_mount(text).unwrap_err().to_string();
        assert!(got.starts_with(message), "{text}: {got}");
    }
}

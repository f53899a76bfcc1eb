//! The main job.

use crate::support::{Slim, busybox, docker};

#[test]
fn a_web_server_works_with_what_it_was_seen_to_need() {
    let image = busybox()
        .file("/www/index.html", b"<a href=/about.html>about</a>", 0o644)
        .file("/www/about.html", b"about", 0o644)
        .file("/www/hidden.html", b"nobody links here", 0o644)
        .change("EXPOSE 8080")
        .change(r#"CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]"#)
        .load();
    let run = Slim::build(&image, &["--http-probe"]).run().ok();
    assert!(run.keeps("/www/index.html") && run.keeps("/www/about.html"), "the crawl goes there");
    assert!(!run.keeps("/www/hidden.html"));
    assert!(!run.keeps("/bin/ls"));
    let slim = image.slim_name();
    assert_eq!(docker(&["image", "inspect", "-f", "{{len .RootFS.Layers}} {{json .Config.Cmd}}", &slim]), {
        r#"1 ["httpd","-f","-p","8080","-h","/www"]"#
    });
    let id = docker(&["run", "-d", &slim]);
    let page = docker(&["exec", &id, "/bin/busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/about.html"]);
    docker(&["rm", "-f", "-v", &id]);
    assert_eq!(page, "about");
}

//! Following what an answer links to.
//!
//! A crawl goes in waves: wave 1 are the pages that the first answer links to, wave 2 those that they link to. The pages
//! of a wave are fetched side by side, but taken in sorted order, and only then are their links looked at; so one site
//! gives the same pages in the same order each time, whichever page happens to be fast. Where a bound leaves no room for all
//! pages, the first ones in that order are fetched.
//!
//! Only GET is sent, only to the same origin, only to what the first request's answer leads to; a redirect is a link. What
//! a crawler had better not touch is excluded, see [`CrawlOptions::exclude`].
//!
//! Without crawling only redirects are followed, a few of them, as docker-slim's client does.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;
use url::Url;

use crate::command::HttpCommand;
use crate::connect::Phases;
use crate::exchange::{HOST_NAME, deadline_after};
use crate::exclude::is_excluded;
use crate::http::Client;
use crate::links;
use crate::record::{Crawled, HttpRecord, Records};

/// Most redirects that are followed where there is no crawling.
const MAX_REDIRECTS: u32 = 10;

/// How far a crawl goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrawlOptions {
    /// How many links away from the first answer a page may be.
    pub max_depth: u32,
    /// How many requests a crawl may make, the first one included.
    pub max_page_count: usize,
    /// How many of them at a time.
    pub concurrency: usize,
    /// How long it may take.
    pub timeout: Duration,
    /// What links are not followed. A pattern is compared with path and query, in any case: one without `*` is found
    /// anywhere in it, one with `*` (any characters, also none) matches it as a whole.
    pub exclude: Vec<String>,
}

impl Default for CrawlOptions {
    fn default() -> Self {
        Self {
            max_depth: 3,
            max_page_count: 1000,
            concurrency: 10,
            timeout: Duration::from_secs(60),
            exclude: vec!["/logout".into(), "/delete".into()],
        }
    }
}

/// What a crawl came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crawl {
    /// The resource it began at.
    pub start: String,
    /// The port.
    pub port: u16,
    /// How many requests were made, the first one included.
    pub pages: usize,
    /// The bounds that left pages out.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cut: BTreeSet<Cut>,
}

/// A bound that left pages out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// [`CrawlOptions::max_depth`].
    Depth,
    /// [`CrawlOptions::max_page_count`].
    PageCount,
    /// [`CrawlOptions::timeout`].
    Timeout,
    /// A page is larger than what of it is searched for links ([`MAX_KEPT`](crate::MAX_KEPT)).
    PageSize,
}

/// Follows the redirects of `first`, which `command` has made, one after the other. `place` is what is added to a request
/// where it is announced.
pub(crate) async fn follow_redirects(
    client: &Client<'_>,
    command: &HttpCommand,
    place: &str,
    first: HttpRecord,
    phases: &dyn Phases,
    records: &mut Records,
) {
    let mut visited = visited_by(&first);
    let mut last = first;
    for depth in 1..=MAX_REDIRECTS {
        let next = redirect(&last).filter(|next| visited.insert(next.clone()));
        let Some(next) = next else { break };
        phases.begin(&format!("GET {next}{place}")).await;
        let crawled = Crawled { depth, from: last.resource.clone() };
        let mut record = client.request(last.port, &command.page(next, last.protocol)).await;
        record.crawled = Some(crawled);
        records.push(std::mem::replace(&mut last, record));
    }
    records.push(last);
}

/// Crawls from `first`, which `command` has made. `name` is what the waves are announced as.
pub(crate) async fn crawl(
    client: &Client<'_>,
    options: &CrawlOptions,
    command: &HttpCommand,
    name: &str,
    first: HttpRecord,
    phases: &dyn Phases,
    records: &mut Records,
) -> Crawl {
    let deadline = deadline_after(options.timeout);
    let (port, protocol) = (first.port, first.protocol);
    let mut frontier = Frontier::new(options, &first);
    frontier.add_links_of(&first);
    records.push(first);
    for depth in 1..=options.max_depth {
        let wave = frontier.next_wave();
        if wave.is_empty() {
            break;
        }
        phases.begin(&format!("{name} depth {depth}")).await;
        let mut answers = stream::iter(wave)
            .map(async |(resource, from)| {
                let mut record = client.request(port, &command.page(resource, protocol)).await;
                record.crawled = Some(Crawled { depth, from });
                record
            })
            .buffered(options.concurrency.max(1));
        loop {
            match timeout_at(deadline, answers.next()).await {
                Ok(Some(record)) => {
                    frontier.add_links_of(&record);
                    records.push(record);
                    frontier.crawl.pages += 1;
                }
                Ok(None) => break,
                Err(_) => {
                    frontier.crawl.cut.insert(Cut::Timeout);
                    return frontier.crawl;
                }
            }
        }
    }
    if !frontier.next.is_empty() || frontier.crowded {
        frontier.crawl.cut.insert(Cut::Depth);
    }
    frontier.crawl
}

/// Which pages are known, and which come next.
struct Frontier<'a> {
    options: &'a CrawlOptions,
    crawl: Crawl,
    /// What was asked for, or is in the wave under way.
    visited: HashSet<String>,
    /// How many more pages may be asked for, the next wave not counted.
    room: usize,
    /// The next wave: each resource with the one that links to it first. Never more than there is room for.
    next: BTreeMap<String, String>,
    /// More pages belong to the next wave than there is room for.
    crowded: bool,
}

impl<'a> Frontier<'a> {
    fn new(options: &'a CrawlOptions, first: &HttpRecord) -> Self {
        let crawl = Crawl { start: first.resource.clone(), port: first.port, pages: 1, cut: BTreeSet::new() };
        let room = options.max_page_count.saturating_sub(1);
        Self { options, crawl, visited: visited_by(first), room, next: BTreeMap::new(), crowded: false }
    }

    fn next_wave(&mut self) -> BTreeMap<String, String> {
        let wave = std::mem::take(&mut self.next);
        if std::mem::take(&mut self.crowded) {
            self.crawl.cut.insert(Cut::PageCount);
        }
        self.visited.extend(wave.keys().cloned());
        self.room -= wave.len();
        wave
    }

    fn add_links_of(&mut self, record: &HttpRecord) {
        let (links, whole) = links_of(record);
        if !whole {
            self.crawl.cut.insert(Cut::PageSize);
        }
        for link in links {
            let excluded = self.options.exclude.iter().any(|pattern| is_excluded(&link, pattern));
            if excluded || self.visited.contains(&link) || self.next.contains_key(&link) {
                continue;
            }
            self.next.insert(link, record.resource.clone());
            if self.next.len() > self.room {
                self.next.pop_last();
                self.crowded = true;
            }
        }
    }
}

/// A GET need not be made again; what other methods answered need not be what GET does.
fn visited_by(first: &HttpRecord) -> HashSet<String> {
    if first.method == "GET" { HashSet::from([first.resource.clone()]) } else { HashSet::new() }
}

/// The resources that an answer leads to, and whether all of it was searched.
fn links_of(record: &HttpRecord) -> (BTreeSet<String>, bool) {
    if let Some(target) = redirect(record) {
        return (BTreeSet::from([target]), true);
    }
    match (record.answer(), url_of(record)) {
        (Some(answer), Some(page)) if (200..300).contains(&answer.status) && is_html(answer.header("content-type")) => {
            (links::of_html(&answer.body, &page), answer.body.len() as u64 == answer.size)
        }
        _ => (BTreeSet::new(), true),
    }
}

/// Where an answer redirects to, on the same origin.
fn redirect(record: &HttpRecord) -> Option<String> {
    let answer = record.answer()?;
    if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    // These two ask for the same method again, with the same body: that is no link.
    if matches!(answer.status, 307 | 308) && !matches!(record.method.as_str(), "GET" | "HEAD") {
        return None;
    }
    let page = url_of(record)?;
    links::of_reference(answer.header("location")?, &page, &page)
}

fn url_of(record: &HttpRecord) -> Option<Url> {
    Url::parse(&format!("{}://{HOST_NAME}:{}{}", record.protocol.scheme(), record.port, record.resource)).ok()
}

fn is_html(content_type: Option<&str>) -> bool {
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("text/html") || essence.eq_ignore_ascii_case("application/xhtml+xml")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use tokio::sync::Barrier;

    use super::*;
    use crate::run::{HttpOptions, HttpResult, probe_http};
    use crate::testing::{Heard, Loopback, Server, options, page, path, reply};

    async fn crawl_with(server: &Server, crawl: CrawlOptions, command: HttpCommand) -> (HttpResult, Vec<String>) {
        let heard = Heard::default();
        let options = HttpOptions { crawl, ..options() };
        let result = probe_http(&options, &[command], &[server.port], &Loopback, &heard).await;
        (result, heard.all())
    }

    async fn crawl(server: &Server, options: CrawlOptions) -> (HttpResult, Vec<String>) {
        crawl_with(server, options, HttpCommand::front_page()).await
    }

    /// Each request as depth, resource, and the page that links to it.
    fn visits(result: &HttpResult) -> Vec<(u32, &str, &str)> {
        let mut visits = vec![];
        for record in &result.records {
            let (depth, from) = record.crawled.as_ref().map_or((0, ""), |crawled| (crawled.depth, &crawled.from));
            visits.push((depth, &record.resource[..], from));
        }
        visits
    }

    fn resources(result: &HttpResult) -> Vec<&str> {
        result.records.iter().map(|record| &record.resource[..]).collect()
    }

    fn cut(result: &HttpResult) -> Vec<Cut> {
        result.crawls[0].cut.iter().copied().collect()
    }

    fn links(links: &[&str]) -> Vec<u8> {
        page(&links.iter().map(|link| format!("<a href='{link}'>")).collect::<String>())
    }

    #[tokio::test]
    async fn waves_are_sorted_and_told() {
        let server = Server::answering(|request| match path(request) {
            "/" => links(&["/z", "/a?x=1", "/", "/a?x=1#part", "http://elsewhere/", "/style.css", "/missing"]),
            "/z" => links(&["/last", "/first"]),
            "/a?x=1" => links(&["/last", "/z"]),
            "/missing" => reply("404 Not Found", "content-type: text/html\r\n", "<a href=/never>"),
            "/style.css" => reply("200 OK", "content-type: text/css\r\n", "<a href=/never>"),
            _ => page("the end"),
        })
        .await;
        let (result, heard) = crawl(&server, CrawlOptions::default()).await;
        assert_eq!(
            visits(&result),
            [
                (0, "/", ""),
                (1, "/a?x=1", "/"),
                (1, "/missing", "/"),
                (1, "/style.css", "/"),
                (1, "/z", "/"),
                (2, "/first", "/z"),
                (2, "/last", "/a?x=1"),
            ]
        );
        assert_eq!(heard, ["GET /", "crawl GET / depth 1", "crawl GET / depth 2"]);
        assert_eq!(result.crawls, [Crawl { start: "/".into(), port: server.port, pages: 7, cut: BTreeSet::new() }]);
        assert!(server.requests().iter().all(|request| request.starts_with("GET ")));
    }

    /// The first of a wave is answered only when the last one has been asked for.
    #[tokio::test]
    async fn order_does_not_depend_on_speed() {
        let all_asked = Arc::new(Barrier::new(3));
        let server = Server::start(move |mut peer| {
            let all_asked = Arc::clone(&all_asked);
            async move {
                let request = peer.read_request().await.expect("request");
                match path(&request) {
                    "/" => peer.send(&links(&["/a", "/b", "/c"])).await,
                    own => {
                        all_asked.wait().await;
                        peer.send(&links(&[&format!("{own}/next"), "/shared"])).await;
                    }
                }
            }
        })
        .await;
        let options = CrawlOptions { max_depth: 1, concurrency: 3, timeout: Duration::MAX, ..CrawlOptions::default() };
        for _ in 0..5 {
            let (result, _) = crawl(&server, options.clone()).await;
            assert_eq!(resources(&result), ["/", "/a", "/b", "/c"]);
            assert_eq!(cut(&result), [Cut::Depth]);
        }
    }

    /// Each answer waits for a partner, so one at a time would never end; the server counts who waits.
    #[tokio::test]
    async fn concurrency_is_used_and_bounded() {
        let (pair, waiting, most) = (Arc::new(Barrier::new(2)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let at_most = Arc::clone(&most);
        let server = Server::start(move |mut peer| {
            let (pair, waiting, most) = (Arc::clone(&pair), Arc::clone(&waiting), Arc::clone(&most));
            async move {
                let request = peer.read_request().await.expect("request");
                if path(&request) == "/" {
                    return peer.send(&links(&["/a", "/b", "/c", "/d", "/e", "/f"])).await;
                }
                most.fetch_max(waiting.fetch_add(1, SeqCst) + 1, SeqCst);
                pair.wait().await;
                waiting.fetch_sub(1, SeqCst);
                peer.send(&page("")).await;
            }
        })
        .await;
        let (result, _) = crawl(&server, CrawlOptions { concurrency: 2, ..CrawlOptions::default() }).await;
        assert_eq!((result.answered(), at_most.load(SeqCst)), (7, 2));
    }

    #[tokio::test]
    async fn no_concurrency_is_one_at_a_time() {
        let server = Server::answering(|_| links(&["/a", "/b"])).await;
        let (result, _) = crawl(&server, CrawlOptions { concurrency: 0, ..CrawlOptions::default() }).await;
        assert_eq!(result.answered(), 3);
    }

    #[tokio::test]
    async fn an_endless_site_is_bounded() {
        let server = Server::answering(|request| {
            let own = path(request).trim_end_matches('/');
            links(&[&format!("{own}/0"), &format!("{own}/1"), &format!("{own}/2")])
        })
        .await;
        let (result, heard) =
            crawl(&server, CrawlOptions { max_depth: u32::MAX, max_page_count: 6, ..CrawlOptions::default() }).await;
        assert_eq!(resources(&result), ["/", "/0", "/1", "/2", "/0/0", "/0/1"]);
        assert_eq!((cut(&result), heard.len()), (vec![Cut::PageCount], 3));
        for (max_depth, pages) in [(0, 1), (1, 4), (2, 13)] {
            // The pages beyond the depth would not be counted.
            let options = CrawlOptions { max_depth, max_page_count: 14, ..CrawlOptions::default() };
            let (result, _) = crawl(&server, options).await;
            assert_eq!((result.records.len(), cut(&result)), (pages, vec![Cut::Depth]));
        }
        for max_page_count in [0, 1] {
            let (result, _) = crawl(&server, CrawlOptions { max_page_count, ..CrawlOptions::default() }).await;
            assert_eq!((resources(&result), cut(&result)), (vec!["/"], vec![Cut::PageCount]));
        }
    }

    #[tokio::test]
    async fn time_is_bounded() {
        let server = Server::start(|mut peer| async move {
            let request = peer.read_request().await.expect("request");
            match path(&request) {
                "/" => peer.send(&links(&["/a", "/b", "/c"])).await,
                "/b" => peer.wait_for_close().await,
                _ => peer.send(&page("")).await,
            }
        })
        .await;
        let options = CrawlOptions { timeout: Duration::from_millis(300), ..CrawlOptions::default() };
        let (result, _) = crawl(&server, options).await;
        assert_eq!((resources(&result), cut(&result)), (vec!["/", "/a"], vec![Cut::Timeout]));
        assert_eq!(
            result.warnings(),
            [format!(
                "the crawl of `/` on port {} left pages out after 2: the time (`--http-crawl-timeout`) is bounded",
                server.port
            )]
        );
    }

    #[tokio::test]
    async fn redirects_are_links_within_the_origin() {
        let server = Server::answering(|request| match path(request) {
            "/" => reply("302 Found", "location: /login?next=/\r\n", ""),
            "/login?next=/" => links(&["/loop", "/away", "/broken", "/teapot"]),
            "/loop" => reply("301 Moved Permanently", "location: /loop\r\n", ""),
            "/away" => reply("302 Found", "location: http://example.com/\r\n", ""),
            "/broken" => reply("302 Found", "location: http://[\r\n", "<a href=/never>"),
            _ => reply("300 Multiple Choices", "location: /never\r\n", ""),
        })
        .await;
        let (result, _) = crawl(&server, CrawlOptions::default()).await;
        assert_eq!(resources(&result), ["/", "/login?next=/", "/away", "/broken", "/loop", "/teapot"]);
    }

    #[tokio::test]
    async fn without_crawling_redirects_are_followed() {
        let server = Server::answering(|request| match path(request) {
            "/a" => reply("308 Permanent Redirect", "location: b\r\n", ""),
            "/b" => reply("302 Found", "location: /a\r\n", ""),
            "/login" if request.starts_with("POST") => reply("303 See Other", "location: /login\r\n", ""),
            "/again" => reply("307 Temporary Redirect", "location: /a\r\n", ""),
            long if long.starts_with("/long") => reply("302 Found", &format!("location: {long}x\r\n"), ""),
            _ => links(&["/never"]),
        })
        .await;
        let post = |resource| HttpCommand { method: "POST".into(), ..HttpCommand::get(resource) };
        for (command, expected) in [
            (HttpCommand::get("/a"), vec![(0, "/a", ""), (1, "/b", "/a")]),
            (post("/login"), vec![(0, "/login", ""), (1, "/login", "/login")]),
            (post("/again"), vec![(0, "/again", "")]),
        ] {
            let (result, _) = crawl_with(&server, CrawlOptions::default(), command).await;
            assert_eq!(visits(&result), expected);
            assert!(result.crawls.is_empty());
        }
        let (result, heard) = crawl_with(&server, CrawlOptions::default(), HttpCommand::get("/long")).await;
        assert_eq!(result.records.len(), 1 + MAX_REDIRECTS as usize);
        assert_eq!(heard[1], "GET /longx");
    }

    #[tokio::test]
    async fn a_large_page_is_searched_to_its_bound() {
        let server = Server::answering(|request| match path(request) {
            "/" => page(&format!("<a href=/near>{}<a href=/far>", " ".repeat(crate::MAX_KEPT))),
            _ => page(""),
        })
        .await;
        let (result, _) = crawl(&server, CrawlOptions::default()).await;
        assert_eq!((resources(&result), cut(&result)), (vec!["/", "/near"], vec![Cut::PageSize]));
    }

    #[tokio::test]
    async fn dangerous_links_are_left_out() {
        let all = ["/Logout", "/user/1/delete?really", "/deleted", "/admin/x", "/admin", "/x?action=logout"];
        let server = Server::answering(move |_| links(&all)).await;
        let (result, _) = crawl(&server, CrawlOptions::default()).await;
        assert_eq!(resources(&result), ["/", "/admin", "/admin/x", "/x?action=logout"]);
        let exclude = vec!["/admin/*".into(), "*logout".into()];
        let (result, _) = crawl(&server, CrawlOptions { exclude, ..CrawlOptions::default() }).await;
        assert_eq!(resources(&result), ["/", "/admin", "/deleted", "/user/1/delete?really"]);
    }
}

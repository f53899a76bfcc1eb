//! Following what an answer links to.
//!
//! A crawl goes in waves: wave 1 are the pages that the first answer links to, wave 2 those that they link to. The pages
//! of a wave are fetched side by side, but taken in sorted order, and only then are their links looked at; so one site
//! gives the same pages in the same order each time, whichever page happens to be fast. Where a bound leaves no room for all
//! pages, the first ones in that order are fetched.
//!
//! Only GET is sent, only to the same origin, only to what the first request's answer leads to; a redirect is a link. What
//! a crawler should better not touch is excluded, see [`CrawlOptions::exclude`].
//!
//! Without crawling only redirects are followed, a few of them, as docker-slim's client does.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::command::HttpCommand;
use crate::connect::Phases;
use crate::http::{Client, HOST_NAME};
use crate::links;
use crate::record::{Crawled, HttpRecord, Outcome};

/// Most redirects that are followed where there is no crawling.
const MAX_REDIRECTS: u32 = 10;
/// Most bytes of bodies that are kept in memory for comparing, over all records of a run.
const MAX_KEPT_IN_ALL: usize = 64 << 20;

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

/// The records of a run, with a bound on the bodies that they keep.
pub(crate) struct Records {
    pub(crate) all: Vec<HttpRecord>,
    room: usize,
}

impl Default for Records {
    fn default() -> Self {
        Self { all: vec![], room: MAX_KEPT_IN_ALL }
    }
}

impl Records {
    pub(crate) fn push(&mut self, mut record: HttpRecord) {
        if let Outcome::Answered(answer) = &mut record.outcome {
            match self.room.checked_sub(answer.body.len()) {
                Some(room) => self.room = room,
                None => answer.body = Bytes::new(),
            }
        }
        self.all.push(record);
    }
}

/// Follows the redirects of `first`, which `command` has made, one after the other.
pub(crate) async fn follow_redirects(
    client: &Client<'_>,
    command: &HttpCommand,
    first: HttpRecord,
    phases: &dyn Phases,
    records: &mut Records,
) {
    let mut visited = visited_by(&first);
    let mut last = first;
    for depth in 1..=MAX_REDIRECTS {
        let next = redirect(&last).filter(|next| visited.insert(next.clone()));
        let Some(next) = next else { break };
        phases.begin(&format!("GET {next}")).await;
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
    let deadline = Instant::now() + options.timeout;
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
    if !frontier.next.is_empty() {
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
}

impl<'a> Frontier<'a> {
    fn new(options: &'a CrawlOptions, first: &HttpRecord) -> Self {
        let crawl = Crawl { start: first.resource.clone(), port: first.port, pages: 1, cut: BTreeSet::new() };
        let room = options.max_page_count.saturating_sub(1);
        Self { options, crawl, visited: visited_by(first), room, next: BTreeMap::new() }
    }

    fn next_wave(&mut self) -> BTreeMap<String, String> {
        let wave = std::mem::take(&mut self.next);
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
                self.crawl.cut.insert(Cut::PageCount);
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

/// See [`CrawlOptions::exclude`].
fn is_excluded(resource: &str, pattern: &str) -> bool {
    let (resource, pattern) = (resource.to_ascii_lowercase(), pattern.to_ascii_lowercase());
    let Some((start, rest)) = pattern.split_once('*') else { return resource.contains(&pattern) };
    let Some(mut resource) = resource.strip_prefix(start) else { return false };
    let mut parts = rest.split('*');
    let end = parts.next_back().unwrap_or_default();
    for part in parts {
        let Some(found) = resource.find(part) else { return false };
        resource = &resource[found + part.len()..];
    }
    resource.ends_with(end)
}

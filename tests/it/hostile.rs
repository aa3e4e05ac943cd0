//! Hostile inputs (`docs/hostile-inputs.md`): each is sent to a running gateway
//! over a real socket, and gets the answer that is expected.

mod content;
mod cost;
mod cross_site;
mod framing;
mod identifiers;
mod logs;
mod names;
mod numbers;
mod receivers;
mod slow;
mod store;
mod trust;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Answer, Gateway, MIB};
use crate::machine::resident_bytes;

/// What a gateway answers to these bytes and to an honest request right after
/// them. If the connection is closed over the first, that stands alone.
async fn say(address: SocketAddr, bytes: &[u8]) -> Vec<String> {
    let honest = format!("GET /livez HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut socket = TcpStream::connect(address).await.expect("a connection");
    // It may be closed before all of it is out.
    let _ = socket.write_all(&[bytes, honest.as_bytes()].concat()).await;
    let mut heard = Vec::new();
    let reading = socket.read_to_end(&mut heard);
    // A reset after the answer is an end, too.
    let _ = tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the connection is closed");
    let heard = String::from_utf8_lossy(&heard).into_owned();
    heard.split("HTTP/1.1 ").skip(1).map(ToOwned::to_owned).collect()
}

/// By how much a process grows while this is done.
struct Growth {
    process: u32,
    before: usize,
}

impl Growth {
    fn of(gateway: &Gateway) -> Self {
        Self { process: gateway.pid(), before: resident_bytes(gateway.pid()) }
    }

    fn bytes(&self) -> usize {
        resident_bytes(self.process).saturating_sub(self.before)
    }

    fn is_below(&self, most: usize, what: &str) {
        self.was_below(most, self.bytes(), what);
    }

    /// The same of the most that it has grown by so far. What is printed stands
    /// in docs/hostile-inputs.md.
    fn was_below(&self, most: usize, grown: usize, what: &str) {
        let (before, after) = (self.before as f64 / MIB as f64, (self.before + grown) as f64 / MIB as f64);
        println!("memory: {what}: {before:.1} MiB before, {after:.1} MiB after");
        assert!(grown < most, "{what}: {} MiB more", grown / MIB);
    }
}

/// Nothing was begun, and nobody panicked.
async fn is_untouched(gateway: &Gateway) {
    assert_eq!(gateway.get("/uploads").await.json["uploads"].as_array().map(Vec::len), Some(0));
    assert_eq!(gateway.get("/files").await.json["files"].as_array().map(Vec::len), Some(0));
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

/// A path with a query, encoded.
fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    format!("{path}?{}", pairs.join("&"))
}

async fn send(request: reqwest::RequestBuilder) -> Answer {
    Answer::of(request.send().await).await
}

/// What the table names is there, and what is here it names.
#[test]
fn the_table_names_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut tests, mut ours) = (BTreeSet::new(), BTreeSet::new());
    for file in sources(&root.join("tests/it")) {
        let text = std::fs::read_to_string(&file).expect("a source");
        let module = file.with_extension("");
        let module: Vec<_> = module.strip_prefix(root.join("tests/it")).expect("a module").iter().collect();
        let module = module.iter().map(|name| name.to_str().expect("a name")).collect::<Vec<_>>().join("::");
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        let is_test = |line: &str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        for two in lines.windows(2).filter(|two| is_test(two[0])) {
            let name = two[1].trim_start_matches("async ").strip_prefix("fn ").and_then(|line| line.split('(').next());
            let test = name.expect("a function");
            let name = format!("{module}::{test}");
            if module.starts_with("hostile") {
                ours.insert(name.clone());
            }
            tests.insert(name);
        }
    }
    assert!(ours.remove("hostile::the_table_names_its_tests"));
    let table = std::fs::read_to_string(root.join("docs/hostile-inputs.md")).expect("the table");
    let words = table.lines().filter(|line| line.starts_with("| ")).flat_map(|row| row.split('`').skip(1).step_by(2));
    let named: BTreeSet<String> = words.filter(|word| word.contains("::")).map(ToOwned::to_owned).collect();
    let unknown: Vec<_> = named.iter().filter(|name| !name.starts_with("src::") && !tests.contains(*name)).collect();
    assert!(unknown.is_empty(), "named, but not there: {unknown:?}");
    let unnamed: Vec<_> = ours.difference(&named).collect();
    assert!(unnamed.is_empty(), "there, but not named: {unnamed:?}");
}

/// All sources below a folder.
fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

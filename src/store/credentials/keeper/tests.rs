//! Who asks, how often, and what is used meanwhile.

use std::path::Path;

use super::*;
use crate::clock::TestClock;
use crate::domain::Timestamp;
use crate::store::credentials::Text;

const NOW: Timestamp = Timestamp::from_millis(1_795_165_868_000); // 2026-11-20T09:11:08Z

/// A command that counts how often it is run, and says what the file `key` has.
fn of_command(folder: &Path) -> (Arc<TestClock>, Keeper) {
    let clock = Arc::new(TestClock::at(NOW));
    let folder = folder.display();
    let command = format!("echo >> {folder}/runs; sleep 0.1; cat {folder}/key");
    let keeper = Keeper::new(Source::Command(command), clock.clone()).expect("a keeper");
    (clock, keeper)
}

fn write(folder: &Path, id: &str, minutes: Option<u32>) {
    let ends =
        minutes.map(|m| format!(", \"Expiration\": \"2026-11-20T{:02}:{:02}:08Z\"", 9 + (11 + m) / 60, (11 + m) % 60));
    let text = format!("{{\"AccessKeyId\": \"{id}\", \"AccessKeySecret\": \"hush\"{}}}", ends.unwrap_or_default());
    std::fs::write(folder.join("key"), text).expect("written");
}

fn runs(folder: &Path) -> usize {
    std::fs::read_to_string(folder.join("runs")).unwrap_or_default().lines().count()
}

async fn id(keeper: &Keeper) -> Result<String, String> {
    keeper.get().await.map(|credentials| credentials.access_key_id.clone()).map_err(|why| why.code)
}

async fn until(keeper: &Keeper, wanted: &str) {
    for _ in 0..200 {
        if id(keeper).await.as_deref() == Ok(wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not {wanted}: {:?}", id(keeper).await);
}

#[tokio::test]
async fn one_asks_for_all_who_wait() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, keeper) = of_command(folder.path());
    write(folder.path(), "one", Some(60));
    // The first goes away: what it asked for is for the others all the same.
    let first = tokio::spawn({
        let keeper = keeper.clone();
        async move { id(&keeper).await }
    });
    tokio::task::yield_now().await;
    first.abort();
    let all = (0..100).map(|_| id(&keeper));
    for got in futures_util::future::join_all(all).await {
        assert_eq!(got.as_deref(), Ok("one"));
    }
    assert_eq!(runs(folder.path()), 1);
    assert_eq!(keeper.life_left(), Some(Duration::from_secs(3600)));
}

#[tokio::test]
async fn others_are_got_early_and_the_old_ones_serve_meanwhile() {
    let folder = tempfile::tempdir().expect("a folder");
    let (clock, keeper) = of_command(folder.path());
    write(folder.path(), "one", Some(60));
    assert_eq!(id(&keeper).await.as_deref(), Ok("one"));
    clock.advance(Duration::from_secs(54 * 60));
    assert_eq!((id(&keeper).await.as_deref(), runs(folder.path())), (Ok("one"), 1));
    // Five minutes before the end somebody asks, in vain: the old ones still live.
    std::fs::remove_file(folder.path().join("key")).expect("removed");
    clock.advance(Duration::from_secs(90));
    assert_eq!(id(&keeper).await.as_deref(), Ok("one"));
    for _ in 0..200 {
        if keeper.inner.read().failed.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((id(&keeper).await.as_deref(), runs(folder.path())), (Ok("one"), 2));
    assert_eq!((id(&keeper).await.as_deref(), runs(folder.path())), (Ok("one"), 2), "not all the time");
    write(folder.path(), "two", Some(120));
    clock.advance(PAUSE);
    assert_eq!(id(&keeper).await.as_deref(), Ok("one"), "nobody waits");
    until(&keeper, "two").await;
    assert_eq!(runs(folder.path()), 3);
}

#[tokio::test]
async fn those_that_ended_are_not_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let (clock, keeper) = of_command(folder.path());
    write(folder.path(), "one", Some(60));
    assert_eq!(id(&keeper).await.as_deref(), Ok("one"));
    clock.advance(Duration::from_secs(3600));
    assert_eq!(id(&keeper).await, Err("Command".to_owned()), "they have expired");
    write(folder.path(), "two", Some(600));
    assert_eq!((id(&keeper).await, runs(folder.path())), (Err("Command".to_owned()), 2), "just asked");
    clock.advance(PAUSE);
    assert_eq!(id(&keeper).await.as_deref(), Ok("two"));
}

#[tokio::test]
async fn a_refusal_brings_others_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (clock, keeper) = of_command(folder.path());
    write(folder.path(), "one", None);
    let used = keeper.get().await.expect("a key");
    write(folder.path(), "two", None);
    clock.advance(PAUSE);
    let all = (0..20).map(|_| keeper.refused(&used));
    assert!(futures_util::future::join_all(all).await.into_iter().all(|others| others));
    assert_eq!((id(&keeper).await.as_deref(), runs(folder.path())), (Ok("two"), 2));
    // There are no others: that is found out, but not again and again.
    let used = keeper.get().await.expect("a key");
    clock.advance(PAUSE);
    for _ in 0..5 {
        assert!(!keeper.refused(&used).await);
    }
    assert_eq!((id(&keeper).await.as_deref(), runs(folder.path())), (Ok("two"), 3));
}

#[tokio::test]
async fn files_are_read_again_and_belong_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let set = |name: &str, text: &str| std::fs::write(path(name), text).expect("written");
    set("id", "one\n");
    set("secret", "first\n");
    let clock = Arc::new(TestClock::at(NOW));
    let (id_file, secret) = (Text::InFile(path("id")), Text::InFile(path("secret")));
    let source =
        Source::Written { id: id_file, secret, token: None, origin: "here".to_owned(), is_in_environment: true };
    let keeper = Keeper::new(source, clock.clone()).expect("a keeper");
    let used = keeper.get().await.expect("a key");
    assert_eq!((used.access_key_id.as_str(), used.access_key_secret.expose()), ("one", "first"));
    // Changed one after the other, as people do.
    clock.advance(Duration::from_secs(1));
    set("id", "two\n");
    let late = path("secret");
    let changing = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(30)).await;
        std::fs::write(late, "second\n").expect("written");
    });
    until(&keeper, "two").await;
    changing.await.expect("written");
    let now = keeper.get().await.expect("a key");
    assert_eq!(now.access_key_secret.expose(), "second");
    // What is configured may be replaced, too.
    let here = |text: &str| Text::Here(crate::units::Secret::new(text));
    let (id, secret, origin) = (here("three"), here("third"), "here".to_owned());
    keeper.replace(Source::Written { id, secret, token: None, origin, is_in_environment: true });
    until(&keeper, "three").await;
    assert!(!keeper.refused(&keeper.get().await.expect("a key")).await, "there are no others");
}

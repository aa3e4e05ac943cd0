//! A cable to Postgres that loses answers to what was done, or stands still.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::KIB;

/// What Postgres says of what it has done: chunks are inserted by one statement
/// of its own.
pub(crate) const INSERTED: &[u8] = b"INSERT 0 ";
pub(crate) const COMMITTED: &[u8] = b"COMMIT\0";
/// The end of an answer after which no transaction is open: it is done for good.
const DONE: &[u8] = b"Z\0\0\0\x05I";
/// The same while a transaction is open.
const OPEN: &[u8] = b"Z\0\0\0\x05T";

/// The cable; it goes with its owner.
pub(crate) struct Cable {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _end: DropGuard,
}

struct State {
    /// The next answer that has this in it is lost, and its connection ends.
    next: Option<&'static [u8]>,
    /// One in so many is lost, by lot; zero is none.
    one_in: u64,
    lots: u64,
    lost: u64,
    /// After so many more rows that are inserted in transactions, that
    /// connection stands still.
    until_frozen: Option<u32>,
    frozen: u32,
    /// What stands still now; those that come later do not.
    still: CancellationToken,
}

/// What becomes of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    Lost,
    /// It never arrives, and nothing else does.
    Frozen,
}

impl State {
    fn fate(&mut self, answer: &[u8]) -> Fate {
        let has = |text: &[u8]| answer.windows(text.len()).any(|window| window == text);
        if answer.ends_with(OPEN) && has(INSERTED) {
            self.until_frozen = self.until_frozen.map(|count| count - 1);
            if self.until_frozen == Some(0) {
                self.until_frozen = None;
                self.frozen += 1;
                return Fate::Frozen;
            }
        }
        if !answer.ends_with(DONE) {
            return Fate::Arrives;
        }
        let mut lost = self.next.is_some_and(has);
        if lost {
            self.next = None;
        } else if self.one_in > 0 && (has(INSERTED) || has(COMMITTED)) {
            self.lots ^= self.lots << 13;
            self.lots ^= self.lots >> 7;
            self.lots ^= self.lots << 17;
            lost = self.lots.is_multiple_of(self.one_in);
        }
        self.lost += u64::from(lost);
        if lost { Fate::Lost } else { Fate::Arrives }
    }
}

impl Cable {
    /// A cable to the server of this database.
    pub(crate) async fn before(database: &str) -> Self {
        let far = host_of(database).to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State {
            next: None,
            one_in: 0,
            lots: 0x2545_F491_4F6C_DD1D,
            lost: 0,
            until_frozen: None,
            frozen: 0,
            still: CancellationToken::new(),
        }));
        let (end, shared) = (CancellationToken::new(), state.clone());
        tokio::spawn(end.clone().run_until_cancelled_owned(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, far.clone(), shared.clone()));
            }
        }));
        Self { address, state, _end: end.drop_guard() }
    }

    /// The database's URL through the cable.
    pub(crate) fn url(&self, database: &str) -> String {
        database.replace(host_of(database), &self.address.to_string())
    }

    pub(crate) fn lose_next(&self, answer: &'static [u8]) {
        self.state().next = Some(answer);
    }

    pub(crate) fn lose_one_in(&self, count: u64) {
        self.state().one_in = count;
    }

    pub(crate) fn lost(&self) -> u64 {
        self.state().lost
    }

    /// The connection stands still that is the `nth` to insert in a transaction.
    pub(crate) fn freeze_in_transaction(&self, nth: u32) {
        self.state().until_frozen = Some(nth);
    }

    /// How many such connections stand still.
    pub(crate) fn frozen(&self) -> u32 {
        self.state().frozen
    }

    /// Every connection there is stands still; those that come are as new.
    pub(crate) fn freeze_all(&self) {
        std::mem::take(&mut self.state().still).cancel();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a lock")
    }
}

/// Ends when either side does, or when an answer is lost.
async fn carry(mut near: TcpStream, far: String, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut far = TcpStream::connect(far).await?;
    let all_still = state.lock().expect("a lock").still.clone();
    // Of this connection alone, when one of its answers freezes it.
    let still = all_still.child_token();
    let ((near_read, near_write), (far_read, far_write)) = (near.split(), far.split());
    let asking = copy(near_read, far_write, &still, |_| Fate::Arrives);
    let answering = copy(far_read, near_write, &still, |answer| state.lock().expect("a lock").fate(answer));
    tokio::select! {
        asked = asking => asked,
        answered = answering => answered,
    }
}

async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    still: &CancellationToken,
    mut fate: impl FnMut(&[u8]) -> Fate,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * KIB];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 && !still.is_cancelled() {
            return Ok(());
        }
        match fate(&buffer[..read]) {
            Fate::Lost => return Ok(()),
            Fate::Frozen => still.cancel(),
            Fate::Arrives => {}
        }
        if still.is_cancelled() {
            // Neither a byte nor an end goes through any more.
            std::future::pending::<()>().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}

/// The host and port of a URL with a user.
fn host_of(url: &str) -> &str {
    url.split(['@', '/']).nth(3).expect("a host")
}

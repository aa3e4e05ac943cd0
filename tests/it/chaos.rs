//! A cable that misbehaves: a TCP proxy between a client and a gateway, or
//! between a gateway and its store or database. Each direction has weather of
//! its own, which can change while connections are open: slow, throttled,
//! stalled, cut after so many bytes in this way or that.
//!
//! ```ignore
//! let cable = Cable::to(emulator.address).await;
//! // … a gateway is told of `cable.address` instead …
//! cable.up(Weather::after(1 << 20, End::Reset));
//! cable.calm();
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What the kernel holds on each side of the cable: little, so that a stall is
/// felt at the other end soon.
const HELD_BYTES: usize = 16 << 10;

/// How one direction of a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// RST to both sides.
    Reset,
    /// FIN to both sides, in the middle of whatever it was.
    Truncate,
    /// FIN in this direction; the other one goes on.
    HalfClose,
    /// Nothing more is carried, and nothing is said.
    Stall,
}

/// How one direction is carried. Bytes count from the moment the weather
/// changed, or the connection began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weather {
    /// Each piece comes so much later.
    pub(crate) latency: Duration,
    /// No faster than this.
    pub(crate) bytes_per_second: Option<u64>,
    /// After so many bytes, this.
    pub(crate) end: Option<(u64, End)>,
}

impl Weather {
    pub(crate) const CALM: Self = Self { latency: Duration::ZERO, bytes_per_second: None, end: None };

    /// Calm for so many bytes, and then this.
    pub(crate) const fn after(bytes: u64, end: End) -> Self {
        Self { end: Some((bytes, end)), ..Self::CALM }
    }
}

/// A cable to an address. Dropped, it breaks all connections.
pub(crate) struct Cable {
    /// Where to connect instead.
    pub(crate) address: SocketAddr,
    up: watch::Sender<Weather>,
    down: watch::Sender<Weather>,
    cut: watch::Sender<()>,
    accepted: Arc<AtomicU64>,
    _unplug: DropGuard,
}

impl Cable {
    pub(crate) async fn to(far: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        // Connections inherit it.
        SockRef::from(&listener).set_recv_buffer_size(HELD_BYTES).expect("a small buffer");
        let unplug = CancellationToken::new();
        let cable = Self {
            address: listener.local_addr().expect("an address"),
            up: watch::Sender::new(Weather::CALM),
            down: watch::Sender::new(Weather::CALM),
            cut: watch::Sender::new(()),
            accepted: Arc::default(),
            _unplug: unplug.clone().drop_guard(),
        };
        let (up, down, cut) = (cable.up.subscribe(), cable.down.subscribe(), cable.cut.subscribe());
        let accepted = cable.accepted.clone();
        tokio::spawn(unplug.run_until_cancelled_owned(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let (up, down, mut cut) = (up.clone(), down.clone(), cut.clone());
                cut.mark_unchanged();
                connections.spawn(async move { connect(near, far, up, down, cut).await });
                while connections.try_join_next().is_some() {}
            }
        }));
        cable
    }

    /// From the connecting side to the far one.
    pub(crate) fn up(&self, weather: Weather) {
        self.up.send_replace(weather);
    }

    /// From the far side to the connecting one.
    pub(crate) fn down(&self, weather: Weather) {
        self.down.send_replace(weather);
    }

    pub(crate) fn calm(&self) {
        self.up(Weather::CALM);
        self.down(Weather::CALM);
    }

    /// Resets every open connection, once; new ones are taken.
    pub(crate) fn reset_all(&self) {
        self.cut.send_replace(());
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// Why both directions end at once.
enum Broken {
    Reset,
    Closed,
}

impl From<io::Error> for Broken {
    /// A side that reset its connection is shown to the other one likewise.
    fn from(_: io::Error) -> Self {
        Self::Reset
    }
}

async fn connect(
    mut near: TcpStream,
    far: SocketAddr,
    up: watch::Receiver<Weather>,
    down: watch::Receiver<Weather>,
    mut cut: watch::Receiver<()>,
) -> io::Result<()> {
    let mut far = TcpStream::connect(far).await?;
    SockRef::from(&near).set_send_buffer_size(HELD_BYTES)?;
    SockRef::from(&far).set_send_buffer_size(HELD_BYTES)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let broken = {
        let ((near_read, near_write), (far_read, far_write)) = (near.split(), far.split());
        let both = async { tokio::try_join!(carry(near_read, far_write, up), carry(far_read, near_write, down)) };
        tokio::select! {
            ended = both => ended.err(),
            _ = cut.changed() => Some(Broken::Reset),
        }
    };
    match broken {
        None => {}
        Some(Broken::Reset) => {
            for side in [&near, &far] {
                SockRef::from(side).set_linger(Some(Duration::ZERO))?;
            }
        }
        Some(Broken::Closed) => {
            near.shutdown().await?;
            far.shutdown().await?;
            // What is closed with bytes unread is reset.
            let drained = async { tokio::join!(drain(&mut near), drain(&mut far)) };
            let _ = tokio::time::timeout(Duration::from_secs(5), drained).await;
        }
    }
    Ok(())
}

async fn drain(side: &mut TcpStream) {
    let mut buffer = vec![0; HELD_BYTES];
    while let Ok(1..) = side.read(&mut buffer).await {}
}

/// One direction, to its end.
async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut forecast: watch::Receiver<Weather>,
) -> Result<(), Broken> {
    let mut buffer = vec![0; HELD_BYTES];
    let mut weather = *forecast.borrow_and_update();
    let mut carried = 0u64;
    loop {
        let mut room = buffer.len();
        match weather.end {
            Some((bytes, end)) if carried >= bytes => match end {
                End::Reset => return Err(Broken::Reset),
                End::Truncate => return Err(Broken::Closed),
                End::HalfClose => {
                    to.shutdown().await?;
                    // The sender is not told: what it sends is lost.
                    while from.read(&mut buffer).await? > 0 {}
                    return Ok(());
                }
                End::Stall => room = 0,
            },
            Some((bytes, _)) => room = room.min(usize::try_from(bytes - carried).unwrap_or(room)),
            None => {}
        }
        if let Some(rate) = weather.bytes_per_second {
            // In pieces of a twentieth of a second.
            room = room.min(usize::try_from(rate / 20).unwrap_or(room).max(1));
        }
        let read = tokio::select! {
            biased;
            changed = forecast.changed() => {
                if changed.is_err() {
                    return Err(Broken::Reset);
                }
                weather = *forecast.borrow_and_update();
                carried = 0;
                continue;
            }
            read = from.read(&mut buffer[..room]), if room > 0 => read?,
        };
        if read == 0 {
            to.shutdown().await?;
            return Ok(());
        }
        let paced = weather.bytes_per_second.map(|rate| Duration::from_secs_f64(read as f64 / rate as f64));
        let pause = weather.latency + paced.unwrap_or_default();
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        to.write_all(&buffer[..read]).await?;
        carried += read as u64;
    }
}

/// An address that answers no SYN: its backlog is full and nobody accepts.
pub(crate) struct BlackHole {
    pub(crate) address: SocketAddr,
    _listener: socket2::Socket,
    _fillers: Vec<socket2::Socket>,
}

impl BlackHole {
    pub(crate) fn open() -> Self {
        use socket2::{Domain, Socket, Type};
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        listener.listen(0).expect("a backlog of one");
        let address = listener.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
        let mut fillers = Vec::new();
        loop {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            let connected = filler.connect_timeout(&address.into(), Duration::from_millis(200));
            fillers.push(filler);
            if connected.is_err() {
                return Self { address, _listener: listener, _fillers: fillers };
            }
        }
    }
}

/// The tool itself, before anything is concluded from it.
mod tests {
    use super::*;
    use crate::harness::{KIB, content};

    /// A far side that sends back what it gets.
    async fn echo() -> (SocketAddr, DropGuard) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let (address, end) = (listener.local_addr().expect("an address"), CancellationToken::new());
        tokio::spawn(end.clone().run_until_cancelled_owned(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        }));
        (address, end.drop_guard())
    }

    /// What comes back of `bytes`, within a second, and how the connection ended.
    async fn back(cable: &Cable, bytes: &[u8]) -> (usize, Result<(), Option<io::ErrorKind>>) {
        let mut stream = TcpStream::connect(cable.address).await.expect("a connection");
        let (mut read, mut write) = stream.split();
        let sending = async {
            if write.write_all(bytes).await.is_ok() {
                let _ = write.shutdown().await;
            }
            std::future::pending::<()>().await;
        };
        let mut came = 0;
        let mut buffer = vec![0; 64 * KIB];
        let receiving = async {
            loop {
                match read.read(&mut buffer).await {
                    Ok(0) => return Ok(()),
                    Ok(bytes) => came += bytes,
                    Err(error) => return Err(Some(error.kind())),
                }
            }
        };
        let ended = tokio::select! {
            ended = receiving => ended,
            () = sending => unreachable!("it never ends"),
            () = tokio::time::sleep(Duration::from_secs(1)) => Err(None),
        };
        (came, ended)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_cable_does_what_it_is_told() {
        let (far, _end) = echo().await;
        let bytes = content(100 * KIB, 1);
        let cable = Cable::to(far).await;
        assert_eq!(back(&cable, &bytes).await, (bytes.len(), Ok(())));
        cable.down(Weather::after(10_000, End::Truncate));
        assert_eq!(back(&cable, &bytes).await, (10_000, Ok(())));
        cable.down(Weather::after(10_000, End::Stall));
        assert_eq!(back(&cable, &bytes).await, (10_000, Err(None)));
        cable.calm();
        cable.up(Weather::after(10_000, End::Reset));
        assert_eq!(back(&cable, &bytes).await.1, Err(Some(io::ErrorKind::ConnectionReset)));
        cable.up(Weather::after(10_000, End::HalfClose));
        assert_eq!(back(&cable, &bytes).await, (10_000, Ok(())), "the other direction goes on");
        cable.up(Weather { bytes_per_second: Some(20_000), ..Weather::CALM });
        let (came, ended) = back(&cable, &bytes).await;
        assert!(came < 40_000 && ended == Err(None), "{came} bytes in a second, {ended:?}");
        cable.up(Weather { latency: Duration::from_secs(5), ..Weather::CALM });
        assert_eq!(back(&cable, &bytes).await, (0, Err(None)));
        assert_eq!(cable.accepted(), 7);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_weather_changes_under_open_connections() {
        let (far, _end) = echo().await;
        let cable = Cable::to(far).await;
        cable.up(Weather::after(0, End::Stall));
        let mut stream = TcpStream::connect(cable.address).await.expect("a connection");
        stream.write_all(b"hello").await.expect("sent");
        let mut buffer = [0; 5];
        let early = tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut buffer)).await;
        assert!(early.is_err(), "it is stalled");
        cable.calm();
        stream.read_exact(&mut buffer).await.expect("it goes on");
        cable.reset_all();
        let end = stream.read(&mut buffer).await.expect_err("an end");
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
        TcpStream::connect(cable.address).await.expect("new ones are taken");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_comes_out_of_a_black_hole() {
        let hole = BlackHole::open();
        let connecting = TcpStream::connect(hole.address);
        assert!(tokio::time::timeout(Duration::from_millis(500), connecting).await.is_err());
    }
}

//! The name: as the machine resolves it, and as each of its name servers does.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::timeout;

use super::Place;
use super::query::{self, Said};
use crate::doctor::report::Verdict;

/// How long one name server gets.
const ASKED_FOR: Duration = Duration::from_secs(2);
/// How long the machine's own way gets: three servers, five seconds each.
const LOOK_UP: Duration = Duration::from_secs(16);
/// The file that says whom the machine asks.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;

/// Whom the machine asks.
pub(super) fn resolvers() -> Vec<SocketAddr> {
    resolvers_in(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default())
}

fn resolvers_in(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.split_whitespace().next());
    // A zone (`fe80::1%eth0`) is for the machine's own resolver alone.
    servers.filter_map(|server| Some(SocketAddr::new(server.parse().ok()?, PORT))).collect()
}

/// Resolves the host; its addresses.
pub(in crate::doctor) async fn check(place: &Place, resolvers: &[SocketAddr]) -> (Verdict, Option<Vec<IpAddr>>) {
    let host = place.host.as_str();
    if let Ok(address) = host.parse::<IpAddr>() {
        return (Verdict::ok(format!("{address} is an address: there is no name to resolve")), Some(vec![address]));
    }
    // What has no dot is of this machine or its search list, and of no server by itself.
    let asked = if host.contains('.') { resolvers } else { &[] };
    let (own, theirs) = tokio::join!(
        timeout(LOOK_UP, lookup_host((host, place.port))),
        join_all(asked.iter().map(|server| ask(*server, host)))
    );
    let own: Result<Vec<IpAddr>, String> = match own {
        Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LOOK_UP.as_secs())),
    };
    let theirs: Vec<_> = asked.iter().map(|server| server.ip()).zip(theirs).collect();
    let addresses = own.clone().ok().filter(|found| !found.is_empty());
    (verdict(place, &own, &theirs), addresses)
}

/// What one server says; None when it says nothing.
async fn ask(server: SocketAddr, host: &str) -> Option<Said> {
    let any: SocketAddr = if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { ([0u16; 8], 0).into() };
    // Of sockets of our own, each connected to the one server: the port is the lot that is drawn.
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(server).await.ok()?;
    let id = socket.local_addr().ok()?.port();
    socket.send(&query::question(id, host)?).await.ok()?;
    let mut text = [0; 1500];
    let answered = async {
        loop {
            let bytes = socket.recv(&mut text).await.ok()?;
            if let Some(said) = query::read(id, &text[..bytes]) {
                return Some(said);
            }
        }
    };
    timeout(ASKED_FOR, answered).await.ok().flatten()
}

fn verdict(place: &Place, own: &Result<Vec<IpAddr>, String>, theirs: &[(IpAddr, Option<Said>)]) -> Verdict {
    let (host, setting) = (&place.host, place.setting);
    let silent: Vec<IpAddr> = theirs.iter().filter(|(_, said)| said.is_none()).map(|(server, _)| *server).collect();
    let servers = told(theirs);
    match own {
        Ok(found) if !found.is_empty() => {
            let what = format!("{host} is {}{servers}", listed(found));
            if silent.is_empty() || silent.len() == theirs.len() {
                return Verdict::ok(what);
            }
            Verdict::warning(
                what,
                "a look-up that begins with a silent name server waits for seconds: now and then uploads time out",
                format!("remove {} from {RESOLV_CONF}, or mend it", listed(&silent)),
            )
        }
        Ok(_) => Verdict::failed(format!("{host} has no address{servers}"), NO_WAY, wrong_name(setting)),
        Err(error) => {
            let what = format!("{host} does not resolve: {error}{servers}");
            if let Some(public) = &place.public_twin {
                return of_internal(what, public, setting);
            }
            if !theirs.is_empty() && silent.len() == theirs.len() {
                let fix = format!("check the name servers in {RESOLV_CONF} and the way to them (UDP port 53)");
                return Verdict::failed(what, "no name server answers", fix);
            }
            Verdict::failed(what, NO_WAY, wrong_name(setting))
        }
    }
}

const NO_WAY: &str = "without an address there is no connection";

fn wrong_name(setting: &str) -> String {
    format!("correct {setting}: a wrong region or a slip of the pen is the usual reason")
}

/// A name for machines within Aliyun's own network.
pub(super) fn of_internal(what: String, public: &str, setting: &str) -> Verdict {
    Verdict::failed(
        format!("{what}; it is an internal endpoint"),
        "internal endpoints answer only machines of their own region within the provider's network, and this one is \
         none, or has no route there",
        format!("{setting} = \"{public}\"   or run the gateway in that region's network"),
    )
}

fn told(theirs: &[(IpAddr, Option<Said>)]) -> String {
    let mut text = String::new();
    for (server, said) in theirs {
        let said = match said {
            None => "silent".to_owned(),
            Some(Said::NoSuchName) => "no such name".to_owned(),
            Some(Said::Failed(code)) => format!("fails (code {code})"),
            Some(Said::Addresses(found)) if found.is_empty() => "no IPv4 address".to_owned(),
            Some(Said::Addresses(found)) => listed(found),
        };
        let _ = write!(text, "; {server}: {said}");
    }
    text
}

fn listed<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;

    fn place(host: &str, public: Option<&str>) -> Place {
        let public_twin = public.map(ToOwned::to_owned);
        Place { is_https: true, host: host.to_owned(), port: 443, public_twin, setting: "store.oss.endpoint" }
    }

    #[test]
    fn servers_are_read_from_the_machines_file() {
        let text = "# mine\nsearch a.example\nnameserver 10.0.0.2\n nameserver ::1 # two\nnameserver fe80::1%eth0\n";
        let ips: Vec<IpAddr> = resolvers_in(text).iter().map(SocketAddr::ip).collect();
        assert_eq!(ips, ["10.0.0.2".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
    }

    #[test]
    fn a_wrong_name_is_told_from_silent_servers_and_from_an_internal_one() {
        let server: IpAddr = "10.0.0.2".parse().unwrap();
        let no_name = || Err("no such name".to_owned());
        let wrong =
            verdict(&place("oss-cn-hangzou.aliyuncs.com", None), &no_name(), &[(server, Some(Said::NoSuchName))]);
        assert!(wrong.status == Status::Failed && wrong.fix.contains("correct store.oss.endpoint"), "{wrong:?}");
        let silent = verdict(&place("a.example", None), &no_name(), &[(server, None)]);
        assert!(silent.why.contains("no name server answers"), "{silent:?}");
        let internal = place("b.oss-cn-hangzhou-internal.aliyuncs.com", Some("oss-cn-hangzhou.aliyuncs.com"));
        let internal = verdict(&internal, &no_name(), &[(server, None)]);
        assert!(internal.fix.contains("store.oss.endpoint = \"oss-cn-hangzhou.aliyuncs.com\""), "{internal:?}");
    }

    #[tokio::test]
    async fn each_server_is_asked_by_itself() {
        let good = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (good_at, mute) = (good.local_addr().unwrap(), UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        tokio::spawn(async move {
            let mut text = [0; 512];
            let (bytes, from) = good.recv_from(&mut text).await.unwrap();
            let mut answer = text[..bytes].to_vec();
            (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
            answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
            good.send_to(&answer, from).await.unwrap();
        });
        assert_eq!(ask(good_at, "a.example").await, Some(Said::Addresses(vec![Ipv4Addr::new(192, 0, 2, 7)])));
        let half = [(IpAddr::from([10, 0, 0, 1]), ask(mute.local_addr().unwrap(), "a.example").await)];
        let found = Ok(vec![IpAddr::from([192, 0, 2, 7])]);
        let mixed = [half.as_slice(), &[(IpAddr::from([10, 0, 0, 2]), Some(Said::NoSuchName))]].concat();
        let told = verdict(&place("a.example", None), &found, &mixed);
        assert!(told.status == Status::Warning && told.what.contains("10.0.0.1: silent"), "{told:?}");
    }
}

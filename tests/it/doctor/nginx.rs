//! nginx as it comes with Debian, before something else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::free_address;

/// A running nginx; it ends when this is dropped.
pub(crate) struct Nginx {
    pub(crate) address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Nginx {
    /// One server that passes everything on, with these lines.
    pub(crate) async fn before(behind: SocketAddr, lines: &str) -> Self {
        let location = format!("location / {{ proxy_pass http://{behind}; proxy_set_header Host $http_host; }}");
        Self::serve("", "", &format!("{lines}\n{location}")).await
    }

    /// The same, with room for so many connections of one address.
    pub(crate) async fn with_room_for(connections: usize, behind: SocketAddr, lines: &str) -> Self {
        let zone = "limit_conn_zone $binary_remote_addr zone=addresses:1m;";
        let location = format!("location / {{ limit_conn addresses {connections}; proxy_pass http://{behind}; }}");
        Self::serve(zone, "", &format!("{lines}\n{location}")).await
    }

    /// The same with TLS.
    pub(crate) async fn with_certificate(behind: SocketAddr, certificate: &Certificate) -> Self {
        let (chain, key) = (certificate.chain.display(), certificate.key.display());
        let location = format!("location / {{ proxy_pass http://{behind}; }}");
        let lines = format!("ssl_certificate {chain}; ssl_certificate_key {key}; client_max_body_size 0;\n{location}");
        Self::serve("", " ssl", &lines).await
    }

    async fn serve(http: &str, listen: &str, server: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (address, place) = (free_address(), folder.path().display());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {place}/{name};\n"))
            .collect();
        // Its workers may else not read what belongs to root.
        let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
        let config = format!(
            "{user} daemon off; worker_processes 1; pid {place}/pid; error_log {place}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; {http} {temporary} server {{ listen {address}{listen};\n{server}\n}} }}\n"
        );
        std::fs::write(folder.path().join("nginx.conf"), config).expect("written");
        let program = ["/usr/sbin/nginx", "nginx"].into_iter().find(|path| Path::new(path).exists()).unwrap_or("nginx");
        let mut command = Command::new(program);
        command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "stderr"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{error}: apt-get install nginx-light"));
        for _ in 0..400 {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return Self { address, child, _folder: folder };
            }
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none(), "{:?}", std::fs::read_to_string(folder.path().join("error.log")));
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("nginx does not listen");
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it when it is asked to end.
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// A certificate for one name, and who vouches for whoever vouches for it.
pub(crate) struct Certificate {
    pub(crate) authority: PathBuf,
    chain: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Made by the openssl of the machine.
    pub(crate) fn of(name: &str, folder: &Path) -> Self {
        let extension = format!("printf 'subjectAltName=DNS:{name}' > leaf.ext");
        let curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        let script = format!(
            "openssl req -x509 {curve} -keyout ca.key -out ca.pem -days 30 -subj /CN=authority\n\
             openssl req {curve} -keyout between.key -out between.csr -subj /CN=between\n\
             printf 'basicConstraints=critical,CA:TRUE,pathlen:0' > between.ext\n\
             openssl x509 -req -in between.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile between.ext \
             -out between.pem\n\
             openssl req {curve} -keyout leaf.key -out leaf.csr -subj /CN={name}\n{extension}\n\
             openssl x509 -req -in leaf.csr -CA between.pem -CAkey between.key -CAcreateserial -days 30 -extfile leaf.ext \
             -out leaf.pem\n\
             cat leaf.pem between.pem > chain.pem"
        );
        let made = Command::new("sh").args(["-ec", &script]).current_dir(folder).output().expect("a shell");
        assert!(made.status.success(), "{made:?}");
        Self { authority: folder.join("ca.pem"), chain: folder.join("chain.pem"), key: folder.join("leaf.key") }
    }
}

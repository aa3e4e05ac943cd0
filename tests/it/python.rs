//! Python with the packages that a folder of `tests/clients` names.

use std::path::{Path, PathBuf};
use std::process::Output;

use tokio::process::Command;
use tokio::sync::Mutex;

const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// One environment is made at a time, and those who need it wait.
static MAKING: Mutex<()> = Mutex::const_new(());

/// A Python that has what `tests/clients/NAME/requirements.txt` says: made
/// once, under `target/`.
pub(crate) async fn python(name: &str) -> PathBuf {
    let _one = MAKING.lock().await;
    let venv = environment(name);
    let requirements = Path::new(CLIENTS).join(name).join("requirements.txt");
    let (wanted, made_of) = (std::fs::read(&requirements).expect("is there"), venv.join("made-of-requirements.txt"));
    let python = venv.join("bin/python");
    if std::fs::read(&made_of).is_ok_and(|made_of| made_of == wanted) {
        return python;
    }
    let made = run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv)).await;
    assert!(made.status.success(), "no Python environment; run: apt-get install -y python3-venv\n{}", text(&made));
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements);
    let installed = run(&mut pip).await;
    assert!(installed.status.success(), "the packages cannot be installed: {pip:?}\n{}", text(&installed));
    std::fs::write(made_of, wanted).expect("is written");
    python
}

pub(crate) fn environment(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp lies in target");
    target.join(format!("clients/{name}-venv"))
}

pub(crate) async fn run(command: &mut Command) -> Output {
    command.kill_on_drop(true);
    match command.output().await {
        Ok(output) => output,
        Err(error) => {
            panic!("{error}: {command:?}; if there is no python3, run: apt-get install -y python3 python3-venv")
        }
    }
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

//! A child process that ends with the test, and for which nobody waits for ever.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringroad::cli::lab::{End, Lab};

/// No test waits longer for anything, unless it says so.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(5);

/// Waits until `answer` has one; `what` is for the message if it never has.
pub fn wait_for<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        thread::sleep(POLL);
    }
}

/// What one output of a program has said so far.
struct Capture {
    octets: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Capture {
    fn new(mut from: impl Read + Send + 'static) -> Self {
        let octets = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&octets);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut chunk) {
                kept.lock().expect("nobody panics with it").extend_from_slice(&chunk[..n]);
            }
        });
        Self { octets, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.octets.lock().expect("nobody panics with it")).into_owned()
    }
}

/// A program that runs in one of the lab's namespaces.
pub struct Program {
    name: String,
    child: Child,
    out: Capture,
    err: Capture,
}

/// How a program ended, and all that it said.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Program {
    pub fn start(lab: &Lab, end: End, argv: &[&str]) -> Self {
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = lab.spawn(end, &mut command).expect("the program is installed");
        let out = Capture::new(child.stdout.take().expect("it is piped"));
        let err = Capture::new(child.stderr.take().expect("it is piped"));
        Self { name: argv.join(" "), child, out, err }
    }

    /// The rest of the first line on stdout that begins with `prefix`.
    pub fn wait_for_line(&mut self, prefix: &str) -> String {
        self.wait_for_line_of(|program| &program.out, prefix)
    }

    /// The rest of the first line on stderr that begins with `prefix`.
    pub fn wait_for_err_line(&mut self, prefix: &str) -> String {
        self.wait_for_line_of(|program| &program.err, prefix)
    }

    fn wait_for_line_of(&mut self, output: fn(&Self) -> &Capture, prefix: &str) -> String {
        let name = self.name.clone();
        wait_for(&format!("{prefix:?} from {name}"), || {
            let text = output(self).text();
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let found = whole.lines().find_map(|line| line.strip_prefix(prefix));
            if found.is_none() {
                let status = self.child.try_wait().expect("it is our child");
                assert!(status.is_none(), "{name} ended early: {status:?} {}", self.err.text());
            }
            found.map(str::to_owned)
        })
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("pids are small");
        kill(Pid::from_raw(pid), signal).expect("it is our child");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let name = self.name.clone();
        let status =
            wait_for(&format!("the end of {name}"), || self.child.try_wait().expect("it is our child"));
        for capture in [&self.out, &self.err] {
            wait_for(&format!("the last words of {name}"), || capture.reader.is_finished().then_some(()));
        }
        Ended { status, out: self.out.text(), err: self.err.text() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// What it said on stdout; it must have gone well.
    pub fn success(self) -> String {
        assert!(self.status.success(), "{self:?}");
        self.out
    }

    /// The one sentence with which it failed.
    pub fn failure(self) -> String {
        assert!(self.status.code().is_some_and(|code| code != 0), "{self:?}");
        let said: Vec<_> = self.err.lines().filter(|line| !line.starts_with("mode: ")).collect();
        let [sentence] = said.as_slice() else { panic!("one sentence, not {self:?}") };
        sentence.strip_prefix("ringroad: ").expect("it says who speaks").to_owned()
    }
}

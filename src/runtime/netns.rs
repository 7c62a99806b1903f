//! Network namespaces with a name, as `ip netns` knows them: make, enter, remove.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::{panic, thread};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::root_hint;

/// Where iproute2 keeps the names: a namespace lives while a file here is bound to it.
const DIRECTORY: &str = "/run/netns";

/// Why a network namespace could not be made, entered or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetnsError {
    /// The name is in use.
    #[error("the network namespace {0} exists already")]
    Exists(String),
    /// There is no namespace of that name.
    #[error("there is no network namespace {0}; `ip netns` lists those there are")]
    Missing(String),
    /// The kernel refused.
    #[error("cannot {action} the network namespace {name}: {source}{}", root_hint(source))]
    Refused {
        /// What was asked for.
        action: &'static str,
        /// The namespace's name.
        name: String,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl NetnsError {
    fn refused(action: &'static str, name: &str, source: impl Into<io::Error>) -> Self {
        Self::Refused { action, name: name.to_owned(), source: source.into() }
    }
}

/// Whether a namespace of that name exists.
pub fn exists(name: &str) -> bool {
    path(name).exists()
}

/// Makes a network namespace that `ip netns` can see.
///
/// # Errors
///
/// When the name is in use, or without CAP_SYS_ADMIN.
pub fn create(name: &str) -> Result<(), NetnsError> {
    let refused = |source| NetnsError::refused("make", name, source);
    share_directory().map_err(refused)?;
    let path = path(name);
    OpenOptions::new().write(true).create_new(true).open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => NetnsError::Exists(name.to_owned()),
        _ => refused(error),
    })?;
    // A thread of its own enters the new namespace, and is gone when the namespace has its name.
    let bind = || -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(mount(Some("/proc/thread-self/ns/net"), &path, none(), MsFlags::MS_BIND, none())?)
    };
    on_new_thread(bind).map_err(|error| {
        // The empty file is ours; if it cannot be removed, the first error is still the one to tell.
        drop(fs::remove_file(&path));
        refused(error)
    })
}

/// Removes the name; the namespace ends with its last process. Returns whether there was one.
///
/// # Errors
///
/// Without CAP_SYS_ADMIN.
pub fn remove(name: &str) -> Result<bool, NetnsError> {
    let path = path(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: the file is there, but nothing is bound to it.
        Ok(()) | Err(Errno::EINVAL) => {}
        Err(Errno::ENOENT) => return Ok(false),
        Err(errno) => return Err(NetnsError::refused("remove", name, errno)),
    }
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) => Err(NetnsError::refused("remove", name, error)),
    }
}

/// The file that stands for the namespace, for requests that take a descriptor.
///
/// # Errors
///
/// When there is no namespace of that name.
pub fn open(name: &str) -> Result<File, NetnsError> {
    File::open(path(name)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NetnsError::Missing(name.to_owned()),
        _ => NetnsError::refused("open", name, error),
    })
}

/// Moves the calling thread into the namespace for good, with a /sys that shows the namespace's devices.
///
/// Threads and processes that it starts are there too.
///
/// # Errors
///
/// When there is no namespace of that name, or without CAP_SYS_ADMIN.
pub fn enter(name: &str) -> Result<(), NetnsError> {
    let file = open(name)?;
    let enter = || -> io::Result<()> {
        setns(&file, CloneFlags::CLONE_NEWNET)?;
        // /sys/class/net shows the namespace in which sysfs was mounted, so it is mounted again, where
        // nobody else sees it.
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(none(), "/", none(), MsFlags::MS_REC | MsFlags::MS_SLAVE, none())?;
        // A system without /sys has nothing to cover.
        let _ = umount2("/sys", MntFlags::MNT_DETACH);
        Ok(mount(Some(name), "/sys", Some("sysfs"), MsFlags::empty(), none())?)
    };
    enter().map_err(|error| NetnsError::refused("enter", name, error))
}

/// Runs `work` on a new thread inside the namespace, and waits for it.
///
/// # Errors
///
/// As [`enter`].
///
/// # Panics
///
/// When `work` does.
pub fn run_in<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    on_new_thread(|| enter(name).map(|()| work()))
}

fn on_new_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|payload| panic::resume_unwind(payload))
}

fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// `mount`'s word for an argument that does not apply.
fn none() -> Option<&'static str> {
    None
}

/// Makes the directory a shared mount, so that every mount namespace sees names come and go.
fn share_directory() -> io::Result<()> {
    fs::create_dir_all(DIRECTORY)?;
    let share = || mount(none(), DIRECTORY, none(), MsFlags::MS_SHARED | MsFlags::MS_REC, none());
    match share() {
        // Not a mount point yet.
        Err(Errno::EINVAL) => {
            mount(Some(DIRECTORY), DIRECTORY, none(), MsFlags::MS_BIND | MsFlags::MS_REC, none())?;
            Ok(share()?)
        }
        other => Ok(other?),
    }
}

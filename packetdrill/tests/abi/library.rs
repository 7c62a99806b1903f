//! The built library, opened as packetdrill opens it, and its functions with Rust's types.

use std::ffi::{CString, c_char, c_int, c_void};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{env, io, mem, ptr};

type Init = unsafe extern "C" fn(*const c_char, *mut [usize; 33]);
type Fd = unsafe extern "C" fn(*mut c_void, c_int) -> c_int;
type FdInt = unsafe extern "C" fn(*mut c_void, c_int, c_int) -> c_int;
type ThreeInts = unsafe extern "C" fn(*mut c_void, c_int, c_int, c_int) -> c_int;
type Address = unsafe extern "C" fn(*mut c_void, c_int, *const u8, u32) -> c_int;
type Accept = unsafe extern "C" fn(*mut c_void, c_int, *mut u8, *mut u32) -> c_int;
type Recv = unsafe extern "C" fn(*mut c_void, c_int, *mut u8, usize, c_int) -> isize;
type Send = unsafe extern "C" fn(*mut c_void, c_int, *const u8, usize, c_int) -> isize;
type Variadic = unsafe extern "C" fn(*mut c_void, c_int, c_int, ...) -> c_int;
type LongVariadic = unsafe extern "C" fn(*mut c_void, c_int, u64, ...) -> c_int;
type GetOption = unsafe extern "C" fn(*mut c_void, c_int, c_int, c_int, *mut u8, *mut u32) -> c_int;
type SetOption = unsafe extern "C" fn(*mut c_void, c_int, c_int, c_int, *const u8, u32) -> c_int;
type Poll = unsafe extern "C" fn(*mut c_void, *mut libc::pollfd, u64, c_int) -> c_int;
type NetdevSend = unsafe extern "C" fn(*mut c_void, *const u8, usize) -> c_int;
type NetdevReceive = unsafe extern "C" fn(*mut c_void, *mut u8, *mut usize, *mut i64) -> c_int;
type Clock = unsafe extern "C" fn(*mut c_void, *mut libc::timeval, *mut c_void) -> c_int;
type Iov = unsafe extern "C" fn(*mut c_void, c_int, *const libc::iovec, c_int) -> isize;
type Msg = unsafe extern "C" fn(*mut c_void, c_int, *mut libc::msghdr, c_int) -> isize;

/// Virtual time stands still until the process's other threads sleep, so one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What a call fails with: an error number.
pub type Called<T> = Result<T, i32>;

/// One stack.
pub struct Library {
    words: [usize; 33],
    _alone: MutexGuard<'static, ()>,
}

/// The function in word `$at` of the interface, called with `$argument`s.
macro_rules! call {
    ($library:expr, $at:expr, $kind:ty $(, $argument:expr)*) => {{
        // SAFETY: the word is a function of this type, as the interface has it.
        let function = unsafe { mem::transmute::<usize, $kind>($library.words[$at]) };
        // SAFETY: the arguments are of those types, and pointers lead to what they promise.
        unsafe { function($library.words[0] as *mut c_void $(, $argument)*) }
    }};
}

fn check<T: PartialOrd + From<i8>>(value: T) -> Called<T> {
    if value < T::from(0) {
        Err(io::Error::last_os_error().raw_os_error().expect("errno is set"))
    } else {
        Ok(value)
    }
}

/// Where cargo has put the library: beside the tests, or one directory up.
pub fn path() -> PathBuf {
    let program = env::current_exe().expect("a program");
    let directories = program.ancestors().skip(1).take(2);
    let mut files = directories.map(|directory| directory.join("libringroad_packetdrill.so"));
    files.find(|file| file.exists()).expect("cargo builds the library before its tests")
}

impl Library {
    /// A stack with these flags.
    pub fn new(flags: &str) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let file = CString::new(path().to_str().expect("UTF-8")).expect("no zero in it");
        // SAFETY: the name is a C string, and the library's initialisers are Rust's.
        let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null(), "{} can be opened", path().display());
        // SAFETY: the handle is good and the name a C string.
        let symbol = unsafe { libc::dlsym(handle, c"packetdrill_interface_init".as_ptr()) };
        assert!(!symbol.is_null(), "the symbol is exported");
        // SAFETY: that is its type.
        let init = unsafe { mem::transmute::<*mut c_void, Init>(symbol) };
        let flags = CString::new(flags).expect("no zero in it");
        let mut words = [0; 33];
        // SAFETY: the flags are a C string, and the structure has 33 words.
        unsafe { init(flags.as_ptr(), &raw mut words) };
        assert!(words.iter().all(|&word| word != 0), "every member is filled");
        Self { words, _alone: alone }
    }

    pub fn socket(&self, domain: i32, kind: i32, protocol: i32) -> Called<i32> {
        check(call!(self, 2, ThreeInts, domain, kind, protocol))
    }

    pub fn bind(&self, fd: i32, addr: SocketAddr) -> Called<i32> {
        let addr = sockaddr(addr);
        check(call!(self, 3, Address, fd, addr.as_ptr(), addr.len() as u32))
    }

    pub fn listen(&self, fd: i32, backlog: i32) -> Called<i32> {
        check(call!(self, 4, FdInt, fd, backlog))
    }

    pub fn accept(&self, fd: i32) -> Called<i32> {
        let (mut addr, mut len) = ([0; 128], 128);
        let fd = check(call!(self, 5, Accept, fd, addr.as_mut_ptr(), &raw mut len))?;
        assert!([16, 28].contains(&len), "the peer's address is told");
        Ok(fd)
    }

    pub fn connect(&self, fd: i32, addr: SocketAddr) -> Called<i32> {
        let addr = sockaddr(addr);
        check(call!(self, 6, Address, fd, addr.as_ptr(), addr.len() as u32))
    }

    pub fn recv(&self, fd: i32, len: usize, flags: i32) -> Called<Vec<u8>> {
        let mut text = vec![0; len];
        let len = check(call!(self, 9, Recv, fd, text.as_mut_ptr(), len, flags))?;
        text.truncate(len as usize);
        Ok(text)
    }

    pub fn readv(&self, fd: i32, lens: [usize; 2]) -> Called<(isize, [Vec<u8>; 2])> {
        let mut text = lens.map(|len| vec![0; len]);
        let buffers =
            [0, 1].map(|at| libc::iovec { iov_base: text[at].as_mut_ptr().cast(), iov_len: lens[at] });
        let len = check(call!(self, 8, Iov, fd, buffers.as_ptr(), 2))?;
        Ok((len, text))
    }

    pub fn sendmsg(&self, fd: i32, parts: [&[u8]; 2]) -> Called<isize> {
        let mut buffers =
            parts.map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
        // SAFETY: a header of zeros is one without anything.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        (header.msg_iov, header.msg_iovlen) = (buffers.as_mut_ptr(), 2);
        check(call!(self, 16, Msg, fd, &raw mut header, 0))
    }

    pub fn send(&self, fd: i32, text: &[u8], flags: i32) -> Called<isize> {
        check(call!(self, 14, Send, fd, text.as_ptr(), text.len(), flags))
    }

    pub fn fcntl(&self, fd: i32, command: i32, argument: i32) -> Called<i32> {
        check(call!(self, 17, Variadic, fd, command, argument))
    }

    pub fn ioctl(&self, fd: i32, request: u64, given: i32) -> Called<i32> {
        let mut value: c_int = given;
        check(call!(self, 18, LongVariadic, fd, request, &raw mut value))?;
        Ok(value)
    }

    pub fn close(&self, fd: i32) -> Called<i32> {
        check(call!(self, 19, Fd, fd))
    }

    pub fn shutdown(&self, fd: i32, how: i32) -> Called<i32> {
        check(call!(self, 20, FdInt, fd, how))
    }

    pub fn option(&self, fd: i32, level: i32, name: i32) -> Called<Vec<u8>> {
        let (mut value, mut len) = (vec![0; 256], 256);
        check(call!(self, 21, GetOption, fd, level, name, value.as_mut_ptr(), &raw mut len))?;
        value.truncate(len as usize);
        Ok(value)
    }

    pub fn set_option(&self, fd: i32, level: i32, name: i32, value: &[u8]) -> Called<i32> {
        check(call!(self, 22, SetOption, fd, level, name, value.as_ptr(), value.len() as u32))
    }

    pub fn poll(&self, fds: &mut [libc::pollfd], timeout_ms: i32) -> Called<i32> {
        check(call!(self, 23, Poll, fds.as_mut_ptr(), fds.len() as u64, timeout_ms))
    }

    pub fn inject(&self, packet: &[u8]) -> Called<i32> {
        check(call!(self, 24, NetdevSend, packet.as_ptr(), packet.len()))
    }

    /// The next packet and when it left, microseconds.
    pub fn next_sent(&self) -> Option<(Vec<u8>, i64)> {
        let (mut packet, mut len, mut at) = (vec![0; 4_096], 4_096, 0);
        let failed = call!(self, 25, NetdevReceive, packet.as_mut_ptr(), &raw mut len, &raw mut at);
        assert_eq!(failed, 0, "a failure would be tried again for ever");
        packet.truncate(len);
        (len > 0).then_some((packet, at))
    }

    pub fn usleep(&self, us: u32) {
        type Usleep = unsafe extern "C" fn(*mut c_void, u32) -> c_int;
        assert_eq!(call!(self, 26, Usleep, us), 0);
    }

    /// The virtual clock, microseconds.
    pub fn now(&self) -> i64 {
        let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
        assert_eq!(call!(self, 27, Clock, &raw mut time, ptr::null_mut()), 0);
        time.tv_sec * 1_000_000 + time.tv_usec
    }

    pub fn epoll_create(&self) -> Called<i32> {
        check(call!(self, 28, Fd, 1))
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        type Free = unsafe extern "C" fn(*mut c_void);
        call!(self, 1, Free);
    }
}

/// `struct sockaddr_in` or `struct sockaddr_in6`.
fn sockaddr(addr: SocketAddr) -> Vec<u8> {
    let mut octets = Vec::new();
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    octets.extend((family as u16).to_ne_bytes());
    octets.extend(addr.port().to_be_bytes());
    match addr {
        SocketAddr::V4(v4) => {
            octets.extend(v4.ip().octets());
            octets.extend([0; 8]);
        }
        SocketAddr::V6(v6) => {
            octets.extend([0; 4]);
            octets.extend(v6.ip().octets());
            octets.extend([0; 4]);
        }
    }
    octets
}

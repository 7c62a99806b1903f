//! What packetdrill calls: C functions that copy their arguments in, and what comes of them out.

mod text;

use std::ffi::{CStr, c_char, c_int, c_long, c_longlong, c_ulong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::time::Duration;

use libc::{iovec, msghdr, pollfd, sockaddr, socklen_t, timeval};

use crate::address;
use crate::errno::{Errno, Outcome, fail};
use crate::flags::Flags;
use crate::memory;
use crate::ops::{Done, Op};
use crate::shared::Shared;
use crate::world::World;
use text::{read, readv, recv, recvfrom, recvmsg, send, sendmsg, sendto, write, writev};

/// `struct packetdrill_interface`.
#[derive(Debug)]
#[repr(C)]
pub struct Interface {
    userdata: *mut c_void,
    free: unsafe extern "C" fn(User),
    socket: unsafe extern "C" fn(User, c_int, c_int, c_int) -> c_int,
    bind: unsafe extern "C" fn(User, c_int, *const sockaddr, socklen_t) -> c_int,
    listen: unsafe extern "C" fn(User, c_int, c_int) -> c_int,
    accept: unsafe extern "C" fn(User, c_int, *mut sockaddr, *mut socklen_t) -> c_int,
    connect: unsafe extern "C" fn(User, c_int, *const sockaddr, socklen_t) -> c_int,
    read: unsafe extern "C" fn(User, c_int, *mut c_void, usize) -> isize,
    readv: unsafe extern "C" fn(User, c_int, *const iovec, c_int) -> isize,
    recv: unsafe extern "C" fn(User, c_int, *mut c_void, usize, c_int) -> isize,
    recvfrom: RecvFrom,
    recvmsg: unsafe extern "C" fn(User, c_int, *mut msghdr, c_int) -> isize,
    write: unsafe extern "C" fn(User, c_int, *const c_void, usize) -> isize,
    writev: unsafe extern "C" fn(User, c_int, *const iovec, c_int) -> isize,
    send: unsafe extern "C" fn(User, c_int, *const c_void, usize, c_int) -> isize,
    sendto: SendTo,
    sendmsg: unsafe extern "C" fn(User, c_int, *const msghdr, c_int) -> isize,
    fcntl: unsafe extern "C" fn(User, c_int, c_int, c_long) -> c_int,
    ioctl: unsafe extern "C" fn(User, c_int, c_ulong, *mut c_void) -> c_int,
    close: unsafe extern "C" fn(User, c_int) -> c_int,
    shutdown: unsafe extern "C" fn(User, c_int, c_int) -> c_int,
    getsockopt: unsafe extern "C" fn(User, c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int,
    setsockopt: unsafe extern "C" fn(User, c_int, c_int, c_int, *const c_void, socklen_t) -> c_int,
    poll: unsafe extern "C" fn(User, *mut pollfd, c_ulong, c_int) -> c_int,
    netdev_send: unsafe extern "C" fn(User, *const c_void, usize) -> c_int,
    netdev_receive: unsafe extern "C" fn(User, *mut c_void, *mut usize, *mut c_longlong) -> c_int,
    usleep: unsafe extern "C" fn(User, u32) -> c_int,
    gettimeofday: unsafe extern "C" fn(User, *mut timeval, *mut c_void) -> c_int,
    epoll_create: unsafe extern "C" fn(User, c_int) -> c_int,
    epoll_ctl: unsafe extern "C" fn(User, c_int, c_int, c_int, *mut c_void) -> c_int,
    epoll_wait: unsafe extern "C" fn(User, c_int, *mut c_void, c_int, c_int) -> c_int,
    pipe: unsafe extern "C" fn(User, *mut c_int) -> c_int,
    splice: Splice,
}

/// The first argument of every function: a [`Shared`] that is never given back.
type User = *mut c_void;
type RecvFrom =
    unsafe extern "C" fn(User, c_int, *mut c_void, usize, c_int, *mut sockaddr, *mut socklen_t) -> isize;
type SendTo =
    unsafe extern "C" fn(User, c_int, *const c_void, usize, c_int, *const sockaddr, socklen_t) -> isize;
type Splice =
    unsafe extern "C" fn(User, c_int, *mut c_longlong, c_int, *mut c_longlong, usize, libc::c_uint) -> isize;

const _: () = assert!(size_of::<Interface>() == 33 * size_of::<usize>());
const _: () = assert!(std::mem::offset_of!(Interface, netdev_send) == 24 * size_of::<usize>());
const _: () = assert!(std::mem::offset_of!(Interface, splice) == 32 * size_of::<usize>());

/// Fills `interface` with one stack, set up as `so_flags` says.
///
/// With flags that are wrong it is a stack on which no socket can be made; standard error says why.
///
/// # Safety
///
/// `so_flags` is null or a C string; `interface` has room for the structure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn packetdrill_interface_init(so_flags: *const c_char, interface: *mut Interface) {
    // SAFETY: the caller vouches for a C string where it is not null.
    let flags = (!so_flags.is_null()).then(|| unsafe { CStr::from_ptr(so_flags) });
    let shared = guard(|| {
        let text = flags.map(CStr::to_string_lossy).unwrap_or_default();
        let flags = Flags::parse(&text).map(|flags| {
            let state = flags.state.or_else(|| std::env::var_os("PD_STATE").map(Into::into));
            Flags { state, ..flags }
        });
        if let Err(why) = &flags {
            eprintln!("ringroad-packetdrill: --so_flags: {why}");
        }
        Box::leak(Box::new(Shared::new(World::new(flags))))
    });
    let filled = Interface {
        userdata: std::ptr::from_mut(shared).cast(),
        free,
        socket,
        bind,
        listen,
        accept,
        connect,
        read,
        readv,
        recv,
        recvfrom,
        recvmsg,
        write,
        writev,
        send,
        sendto,
        sendmsg,
        fcntl,
        ioctl,
        close,
        shutdown,
        getsockopt,
        setsockopt,
        poll,
        netdev_send,
        netdev_receive,
        usleep,
        gettimeofday,
        epoll_create,
        epoll_ctl,
        epoll_wait,
        pipe,
        splice,
    };
    // SAFETY: the caller vouches for the room.
    unsafe { memory::put(interface, filled) };
}

/// Runs what must not unwind into C.
fn guard<T>(act: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| {
        eprintln!("ringroad-packetdrill: the stack has panicked; what it said is above");
        process::abort();
    })
}

/// A call as C has it: -1 with errno set where it fails.
fn answer<T, N: From<i8>>(
    user: User,
    act: impl FnOnce(&Shared) -> Outcome<T>,
    value: impl FnOnce(T) -> N,
) -> N {
    let shared: *const Shared = user.cast_const().cast();
    // SAFETY: it is the pointer that `packetdrill_interface_init` handed out, to what is never given back.
    let shared = unsafe { &*shared };
    match guard(|| act(shared)) {
        Ok(done) => value(done),
        Err(Errno(number)) => {
            memory::set_errno(number);
            N::from(-1)
        }
    }
}

fn nothing(user: User, act: impl FnOnce(&Shared) -> Outcome<()>) -> c_int {
    answer(user, act, |()| 0)
}

fn length(value: usize) -> isize {
    isize::try_from(value).unwrap_or(isize::MAX)
}

/// Linux moves no more than this at a time, and no call returns more.
fn small(value: usize) -> c_int {
    c_int::try_from(value).unwrap_or(c_int::MAX)
}

unsafe extern "C" fn free(user: User) {
    nothing(user, |shared| {
        shared.free();
        Ok(())
    });
}

unsafe extern "C" fn socket(user: User, domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    answer(user, |shared| shared.with(|world| world.socket(domain, kind, protocol)), |fd| fd)
}

unsafe extern "C" fn bind(user: User, fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: C's caller vouches for the address.
    let addr = unsafe { memory::read(addr.cast(), len as usize) };
    nothing(user, |shared| {
        let addr = address::parse(&addr)?.ok_or(Errno(libc::EAFNOSUPPORT))?;
        shared.with(|world| world.bind(fd, addr))
    })
}

unsafe extern "C" fn listen(user: User, fd: c_int, backlog: c_int) -> c_int {
    nothing(user, |shared| shared.with(|world| world.listen(fd, backlog)))
}

unsafe extern "C" fn accept(user: User, fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    let accepted = |shared: &Shared| {
        let patience = shared.with(|world| world.patience(fd, false, false))?;
        shared.call(Op::Accept { fd }, patience)
    };
    answer(user, accepted, |done| {
        // SAFETY: C's caller vouches for both.
        unsafe { put_address(&done, addr, len) };
        small(done.value)
    })
}

/// Tells the peer's address.
///
/// # Safety
///
/// `len` is null or says for how many octets `addr` can be written.
unsafe fn put_address(done: &Done, addr: *mut sockaddr, len: *mut socklen_t) {
    // SAFETY: the caller vouches for it.
    let room = unsafe { memory::get(len) };
    let (Some(room), Some(peer)) = (room, done.peer) else { return };
    let octets = address::octets(peer);
    // SAFETY: `len` says so.
    unsafe { memory::write(addr.cast(), room as usize, &octets) };
    let told = socklen_t::try_from(octets.len()).unwrap_or(0);
    // SAFETY: the caller vouches for it.
    unsafe { memory::put(len, told) };
}

unsafe extern "C" fn connect(user: User, fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: C's caller vouches for the address.
    let addr = unsafe { memory::read(addr.cast(), len as usize) };
    nothing(user, |shared| {
        let Some(addr) = address::parse(&addr)? else {
            return shared.with(|world| world.disconnect(fd));
        };
        let (op, patience) =
            shared.with(|world| Ok((world.connect(fd, addr)?, world.patience(fd, true, false)?)))?;
        shared.call(op, patience).map(|_| ())
    })
}

fn refuse<N: From<i8>>(user: User, number: i32) -> N {
    answer(user, |_| fail::<N>(number), |value| value)
}

unsafe extern "C" fn fcntl(user: User, fd: c_int, command: c_int, argument: c_long) -> c_int {
    let told = |world: &mut World| {
        let sock = world.sock(fd)?;
        match command {
            libc::F_GETFL => Ok(libc::O_RDWR | if sock.nonblocking { libc::O_NONBLOCK } else { 0 }),
            libc::F_SETFL => {
                sock.nonblocking = argument & c_long::from(libc::O_NONBLOCK) != 0;
                Ok(0)
            }
            libc::F_GETFD | libc::F_SETFD => Ok(0),
            _ => fail(libc::EINVAL),
        }
    };
    answer(user, |shared| shared.with(told), |value| value)
}

unsafe extern "C" fn ioctl(user: User, fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    let argument: *mut c_int = argument.cast();
    // SAFETY: C's caller vouches for it with each request that is known; null is none.
    let given = (request == libc::FIONBIO).then(|| unsafe { memory::get(argument) }).flatten();
    let told = |world: &mut World| world.ioctl(fd, request, given);
    answer(
        user,
        |shared| shared.with(told),
        |figure| {
            if let Some(figure) = figure {
                // SAFETY: C's caller vouches for it.
                unsafe { memory::put(argument, figure) };
            }
            0
        },
    )
}

unsafe extern "C" fn close(user: User, fd: c_int) -> c_int {
    nothing(user, |shared| {
        let (op, linger) = shared.with(|world| {
            let linger = world.sock(fd)?.linger;
            Ok((world.close(fd)?, linger))
        })?;
        memory::close(fd);
        shared.call(op, linger).map(|_| ())
    })
}

unsafe extern "C" fn shutdown(user: User, fd: c_int, how: c_int) -> c_int {
    nothing(user, |shared| shared.with(|world| world.shutdown(fd, how)))
}

unsafe extern "C" fn getsockopt(
    user: User,
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    // SAFETY: C's caller vouches for it.
    let room = unsafe { memory::get(len) }.unwrap_or(0);
    answer(
        user,
        |shared| shared.with(|world| world.option(fd, level, name)),
        |octets| {
            // SAFETY: `len` vouches for the room.
            let told = unsafe { memory::write(value.cast(), room as usize, &octets) };
            let told = socklen_t::try_from(told).unwrap_or(0);
            // SAFETY: C's caller vouches for it.
            unsafe { memory::put(len, told) };
            0
        },
    )
}

unsafe extern "C" fn setsockopt(
    user: User,
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    // SAFETY: C's caller vouches for the value.
    let value = unsafe { memory::read(value.cast(), len as usize) };
    nothing(user, |shared| shared.with(|world| world.set_option(fd, level, name, &value)))
}

unsafe extern "C" fn poll(user: User, fds: *mut pollfd, count: c_ulong, timeout_ms: c_int) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: C's caller vouches for the array.
    let asked = unsafe { memory::array(fds, count) };
    let op = Op::Poll { fds: asked.iter().map(|entry| (entry.fd, entry.events)).collect() };
    let patience = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
    answer(
        user,
        |shared| shared.call(op, patience),
        |done| {
            for (at, (entry, revents)) in asked.iter().zip(done.revents).enumerate() {
                // SAFETY: C's caller vouches for `count` entries, and this is one of them.
                let place = unsafe { fds.add(at) };
                // SAFETY: as above.
                unsafe { memory::put(place, pollfd { revents, ..*entry }) };
            }
            small(done.value)
        },
    )
}

unsafe extern "C" fn netdev_send(user: User, packet: *const c_void, len: usize) -> c_int {
    // SAFETY: C's caller vouches for the packet.
    let packet = unsafe { memory::read(packet.cast(), len) };
    nothing(user, |shared| shared.inject(&packet))
}

unsafe extern "C" fn netdev_receive(
    user: User,
    buffer: *mut c_void,
    len: *mut usize,
    time_us: *mut c_longlong,
) -> c_int {
    // SAFETY: C's caller vouches for it.
    let room = unsafe { memory::get(len) }.unwrap_or(0);
    // A failure would be tried again for ever, and an empty packet fails the script.
    let (packet, at_us) = answer_packet(user);
    // SAFETY: `len` vouches for the room.
    let told = unsafe { memory::write(buffer.cast(), room, &packet) };
    // SAFETY: C's caller vouches for it.
    unsafe { memory::put(len, told) };
    // SAFETY: C's caller vouches for it.
    unsafe { memory::put(time_us, at_us) };
    0
}

fn answer_packet(user: User) -> (Vec<u8>, c_longlong) {
    let mut found = (Vec::new(), 0);
    nothing(user, |shared| {
        if let Some(sent) = shared.next_sent()? {
            found = (sent.packet, c_longlong::try_from(sent.at_us).unwrap_or(c_longlong::MAX));
        }
        Ok(())
    });
    found
}

unsafe extern "C" fn usleep(user: User, us: u32) -> c_int {
    nothing(user, |shared| shared.sleep(us.into()))
}

unsafe extern "C" fn gettimeofday(user: User, time: *mut timeval, _zone: *mut c_void) -> c_int {
    answer(user, Shared::clock, |us| {
        let part = |value: u64| c_long::try_from(value).unwrap_or(c_long::MAX);
        let value = timeval { tv_sec: part(us / 1_000_000), tv_usec: part(us % 1_000_000) };
        // SAFETY: C's caller vouches for it.
        unsafe { memory::put(time, value) };
        0
    })
}

unsafe extern "C" fn epoll_create(user: User, _size: c_int) -> c_int {
    refuse(user, libc::ENOSYS)
}

unsafe extern "C" fn epoll_ctl(
    user: User,
    _epfd: c_int,
    _op: c_int,
    _fd: c_int,
    _event: *mut c_void,
) -> c_int {
    refuse(user, libc::ENOSYS)
}

unsafe extern "C" fn epoll_wait(
    user: User,
    _epfd: c_int,
    _events: *mut c_void,
    _max: c_int,
    _ms: c_int,
) -> c_int {
    refuse(user, libc::ENOSYS)
}

unsafe extern "C" fn pipe(user: User, _fds: *mut c_int) -> c_int {
    refuse(user, libc::ENOSYS)
}

unsafe extern "C" fn splice(
    user: User,
    _from: c_int,
    _from_offset: *mut c_longlong,
    _to: c_int,
    _to_offset: *mut c_longlong,
    _len: usize,
    _flags: libc::c_uint,
) -> isize {
    refuse(user, libc::ENOSYS)
}

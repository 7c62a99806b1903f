//! Every order in which threads can take the steps of src/runtime/flags.rs, and everything that each may see then.
//!
//! Nothing is here unless the compiler is told `--cfg loom`: `scripts/check-memory loom` does.
#![cfg(loom)]
#![forbid(unsafe_code)]

use flags::Flags;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

#[path = "../src/runtime/flags.rs"]
mod flags;

/// A mailbox with what an eventfd is to a worker, and the least that a ring of frames may be.
struct Mailbox {
    flags: Flags,
    event: Mutex<bool>,
    written: Condvar,
    /// Nothing follows for others from what it holds: a real ring promises more.
    frames: AtomicUsize,
}

impl Mailbox {
    fn new() -> Self {
        Self {
            flags: Flags::new(),
            event: Mutex::new(false),
            written: Condvar::new(),
            frames: AtomicUsize::new(0),
        }
    }

    fn rouse_if(&self, asleep: bool) {
        if asleep {
            *self.event.lock().expect("nobody panics with it") = true;
            self.written.notify_one();
        }
    }

    /// Sleeps for as long as nothing is written: who is not woken never ends, which loom reports.
    fn rest(&self) {
        if self.flags.begin_sleep(|| self.frames.load(Ordering::Relaxed) == 0) {
            let mut event = self.event.lock().expect("nobody panics with it");
            while !*event {
                event = self.written.wait(event).expect("nobody panics with it");
            }
            self.flags.end_sleep();
            *event = false;
        }
    }
}

/// Tries every order with up to three switches to another thread that the one running did not ask for.
fn model(act: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(act);
}

fn spawn(mailbox: &Arc<Mailbox>, act: fn(&Mailbox)) -> thread::JoinHandle<()> {
    let mailbox = Arc::clone(mailbox);
    thread::spawn(move || act(&mailbox))
}

#[test]
fn nobody_sleeps_through_a_wake_or_the_end() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new());
        let others = [
            spawn(&mailbox, |mailbox| mailbox.rouse_if(mailbox.flags.wake())),
            spawn(&mailbox, |mailbox| mailbox.rouse_if(mailbox.flags.stop())),
        ];
        let (mut wakes, mut stop) = (0, false);
        while wakes == 0 || !stop {
            match mailbox.flags.look() {
                Some(news) => {
                    wakes += u32::from(news.woken);
                    stop |= news.stop;
                }
                None => mailbox.rest(),
            }
        }
        assert_eq!(wakes, 1, "one call, one callback");
        for other in others {
            other.join().expect("it does not panic");
        }
    });
}

#[test]
fn a_wake_after_the_callback_makes_another() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new());
        let seen = Arc::new(AtomicUsize::new(0));
        let other = {
            let (mailbox, seen) = (Arc::clone(&mailbox), Arc::clone(&seen));
            thread::spawn(move || {
                for value in 1..=2 {
                    seen.store(value, Ordering::Relaxed);
                    mailbox.rouse_if(mailbox.flags.wake());
                }
            })
        };
        // What was stored before a wake is seen in a callback for it.
        let mut last = 0;
        while last < 2 {
            match mailbox.flags.look() {
                Some(news) if news.woken => last = seen.load(Ordering::Relaxed),
                Some(_) => {}
                None => mailbox.rest(),
            }
        }
        other.join().expect("it does not panic");
    });
}

#[test]
fn nobody_sleeps_beside_a_frame() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new());
        let other = spawn(&mailbox, |mailbox| {
            mailbox.frames.store(1, Ordering::Relaxed);
            mailbox.rouse_if(mailbox.flags.is_asleep());
        });
        while mailbox.frames.load(Ordering::Relaxed) == 0 {
            mailbox.rest();
        }
        other.join().expect("it does not panic");
    });
}

#[test]
fn the_last_to_leave_lets_everybody_go() {
    fn leave(me: usize, mailboxes: &[Mailbox; 2]) {
        mailboxes[me].flags.leave();
        mailboxes.iter().for_each(|mailbox| mailbox.rouse_if(mailbox.flags.tell()));
        loop {
            let _ = mailboxes[me].flags.look();
            if mailboxes.iter().all(|mailbox| mailbox.flags.has_left()) {
                break;
            }
            mailboxes[me].rest();
        }
    }
    model(|| {
        let mailboxes = Arc::new([Mailbox::new(), Mailbox::new()]);
        let other = {
            let mailboxes = Arc::clone(&mailboxes);
            thread::spawn(move || leave(1, &mailboxes))
        };
        leave(0, &mailboxes);
        other.join().expect("it does not panic");
    });
}

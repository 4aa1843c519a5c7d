//! What pool and worker read from each other: frames, requests, answers, greetings. A request that is read can
//! be written, and says the same again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tapfer_hsm::pool::wire::{Answer, Greeting, Incoming, Request};

fuzz_target!(|bytes: &[u8]| {
    let mut incoming = Incoming::default();
    if incoming.read_from(bytes).is_ok() {
        while let Ok(Some(frame)) = incoming.next_frame() {
            let _answer = postcard::from_bytes::<Answer<'_>>(frame.message);
            let _greeting = postcard::from_bytes::<Greeting>(frame.message);
            if let Ok(request) = postcard::from_bytes::<Request<'_>>(frame.message) {
                let written = postcard::to_stdvec(&request).expect("what was read can be written");
                let again: Request<'_> = postcard::from_bytes(&written).expect("and read again");
                assert_eq!(postcard::to_stdvec(&again).expect("as well"), written);
            }
        }
    }
});

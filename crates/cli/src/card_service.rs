//! `tapfer card serve`: the wallet as a card in a virtual PC/SC reader.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tapfer_payment_types::TokenId;
use tapfer_payment_types::store_share::StoreShareMessage;
use tapfer_wallet::policy::Ask;
use tapfer_wallet::store::StoreShare;
use tapfer_wallet::{DeviceState, Notification};
use zeroize::Zeroizing;

use crate::clock;
use crate::commands::wallet::Place;
use crate::context::Context;
use crate::failure::{Ending, UsageError};
use crate::key_supply::KeySupply;
use crate::phone::Phone;
use crate::pin_pad;
use crate::store_keeper::read_share;
use crate::test_keys::TestKeys;
use crate::vpcd::{self, Ended, VirtualCard};
use crate::wallet_store::WalletStore;

/// How long to wait before the reader is dialled again.
const REDIAL: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
#[command(after_help = "\
Example (the virtual reader listens on every address, so give it a network of its own):
  tapfer wallet share |
  sudo unshare --net sh -c 'ip link set lo up; pcscd; tapfer card serve --share-from-stdin'
  tapfer terminal pay --reader 'Virtual PCD 00 00' --amount 12.34 --currency EUR")]
pub(crate) struct ServeArguments {
    /// Where the virtual reader (vpcd) listens
    #[arg(long, value_name = "HOST:PORT", default_value = vpcd::DEFAULT_ADDRESS)]
    vpcd: String,
    #[command(flatten)]
    place: Place,
    /// Whether the phone's screen is on
    #[arg(long, value_enum, default_value_t = Screen::On)]
    screen: Screen,
    /// The person has unlocked the phone, by whatever method, which counts as verification
    #[arg(long)]
    unlocked: bool,
    /// Read what `tapfer wallet share` says from standard input: the platform need not be reached
    #[arg(long)]
    share_from_stdin: bool,
    /// When the phone asks for its PIN, its owner takes it out of the field, enters the next line of standard
    /// input, and presents it again
    #[arg(long)]
    pin_from_stdin: bool,
    /// Show issuer master key, token number and key index, so that anybody can recompute the
    /// cryptogram (demo realm only)
    #[arg(long)]
    show_test_keys: bool,
    /// File with the passphrase of the key store, for --show-test-keys [env: TAPFER_PASSPHRASE]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Whether a screen is lit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Screen {
    On,
    Off,
}

/// The state of the phone that the arguments describe.
pub(crate) fn device_state(screen: Screen, unlocked: bool) -> DeviceState {
    DeviceState { screen_on: screen == Screen::On, unlocked, ..DeviceState::default() }
}

/// A phone whose dialogue is told on the terminal, and which fetches keys when they run low.
struct ServedPhone<'a> {
    phone: Phone,
    context: &'a Context,
    test_keys: Option<TestKeys>,
    supply: KeySupply,
    /// Somebody at standard input enters PINs.
    has_owner: bool,
    /// The token whose PIN the phone has asked for.
    asked_for: Option<TokenId>,
}

impl VirtualCard for ServedPhone<'_> {
    fn reset(&mut self) {
        self.phone.reset();
        let (store, wallet) = self.phone.between_taps();
        if let Some(news) = self.supply.between_taps(self.context, store, wallet) {
            self.context.output.remark(format!("phone: {news}"));
        }
    }

    fn transmit(&mut self, command: &[u8]) -> anyhow::Result<Vec<u8>> {
        let answer = VirtualCard::transmit(&mut self.phone, command)?;
        if let Some(keys) = &self.test_keys {
            keys.show_payment(self.context.output, &answer)?;
        }
        for news in self.phone.take_news() {
            if let (Notification::PersonNeeded { token, ask: Ask::EnterPin, .. }, true) =
                (&news, self.has_owner)
            {
                self.asked_for = Some(*token);
            }
            self.context.output.remark(format!("phone: {}", self.phone.in_words(&news)));
        }
        Ok(answer)
    }

    fn leaves(&self) -> bool {
        self.asked_for.is_some()
    }
}

impl ServedPhone<'_> {
    /// The owner looks at the phone, between taps, and enters the PIN.
    fn see_phone(&mut self) -> anyhow::Result<()> {
        let Some(token) = self.asked_for.take() else { return Ok(()) };
        let Some(pin) = pin_pad::next_pin()? else {
            self.has_owner = false;
            return Ok(());
        };
        let (_, wallet) = self.phone.between_taps();
        match wallet.enter_pin(token, &pin, clock::now()) {
            Ok(()) => self.context.output.remark("phone: the PIN is entered"),
            Err(error) => {
                let text = self.context.access.language.refusal(&error);
                self.context.output.remark(format!("phone: {text}"));
            }
        }
        Ok(())
    }
}

pub(crate) fn run(context: &Context, arguments: &ServeArguments) -> anyhow::Result<Ending> {
    let directory = arguments.place.directory(context);
    let (store, wallet) = match arguments.share_from_stdin.then(share_from_stdin).transpose()? {
        Some(Some(share)) => WalletStore::open_with(share, &directory)?,
        Some(None) | None => WalletStore::open(context, &directory)?,
    };
    let test_keys = match arguments.show_test_keys {
        true => Some(TestKeys::open(context, &store, &wallet, &arguments.passphrase_file)?),
        false => None,
    };
    if let Some(keys) = &test_keys {
        keys.show(context.output)?;
    }
    let device = device_state(arguments.screen, arguments.unlocked);
    let phone = Phone::new(store, wallet, device, context.access.language.of_people());
    let mut card = ServedPhone {
        phone,
        context,
        test_keys,
        supply: KeySupply::default(),
        has_owner: arguments.pin_from_stdin,
        asked_for: None,
    };
    serve_for_ever(context, &arguments.vpcd, &mut card)
}

/// What `tapfer wallet share` has said; `None` if the wallet opens without a share.
fn share_from_stdin() -> anyhow::Result<Option<StoreShare>> {
    let mut line = Zeroizing::new(String::new());
    std::io::stdin().read_line(&mut line)?;
    let message = serde_json::from_str::<Option<StoreShareMessage>>(&line).map_err(|_| {
        UsageError("--share-from-stdin: give the line that `tapfer wallet share` prints".to_owned())
    })?;
    message.as_ref().map(read_share).transpose()
}

/// Dials the reader again and again: the daemon may start later or be restarted.
fn serve_for_ever(
    context: &Context,
    address: &str,
    card: &mut ServedPhone<'_>,
) -> anyhow::Result<Ending> {
    let addresses: Vec<_> = address
        .to_socket_addrs()
        .map_err(|error| UsageError(format!("--vpcd {address}: {error}")))?
        .collect();
    let mut told = false;
    loop {
        match TcpStream::connect(addresses.as_slice()) {
            Ok(mut stream) => {
                told = false;
                context.output.remark(format!("in the virtual reader at {address}"));
                let ended = vpcd::serve(&mut stream, card);
                card.reset();
                card.see_phone()?;
                match ended {
                    Ended::ByReader(Ok(())) => {}
                    Ended::ByReader(Err(error)) => {
                        context.output.remark(format!("the virtual reader stumbled: {error}"));
                    }
                    Ended::ByCard(error) => return Err(error),
                }
            }
            Err(error) if !told => {
                told = true;
                context.output.remark(format!(
                    "waiting for the virtual reader at {address} ({error}); is pcscd running?"
                ));
            }
            Err(_) => {}
        }
        std::thread::park_timeout(REDIAL);
    }
}

"""A phone whose app is written in Python: enrols, pays and replenishes through the generated bindings,
against the real platform and the real terminal."""

import json
import os
import tempfile
import unittest

from platform_and_terminal import Field, Platform, tapfer
from tapfer_wallet_ffi import (
    Ask,
    DeviceState,
    News,
    PinStanding,
    StorageError,
    TapferWallet,
    UnlockMethod,
    WalletError,
    WalletStorage,
    file_storage,
    store_report,
)

IN_HAND = DeviceState(
    screen_on=True, unlocked=False, unlock_method=UnlockMethod.PIN, integrity_verdict=0
)
UNLOCKED = DeviceState(
    screen_on=True, unlocked=True, unlock_method=UnlockMethod.PIN, integrity_verdict=0
)
DARK = DeviceState(
    screen_on=False, unlocked=False, unlock_method=UnlockMethod.PIN, integrity_verdict=0
)


class Memory(WalletStorage):
    """A storage of the app's own, which can be told to break."""

    def __init__(self):
        self.sealed = None
        self.replaced = 0
        self.broken = None

    def load(self):
        return self.sealed

    def replace(self, sealed):
        if self.broken is not None:
            raise self.broken
        self.sealed = sealed
        self.replaced += 1


class Phone:
    """A phone with a wallet, as an app would have it."""

    def __init__(self, storage=None):
        self.storage = storage or Memory()
        self.secret = os.urandom(32)
        self.wallet = TapferWallet.open(self.storage, self.secret, None)
        self.state = IN_HAND
        self.news = []
        self.errors = []
        self.order = []
        self.field = Field(self.answer, lambda: self.wallet.deselect())

    def enrol(self):
        """What the issuer's own server does for its app, and then what the app does alone."""
        operator = Platform.as_operator()
        _, card = tapfer("card", "show")
        registration = self.wallet.registration_request(card["issuer"], "phone in Python")
        device = operator.post_text("/v1/devices", registration)
        device = json.loads(device)
        self.device, self.platform = device["id"], Platform(device["api_key"])
        self.move_store()
        self.enrol_card(card["id"])
        return self

    def move_store(self):
        """Before the first keys: no key ever lies in a store that opens without the platform's share."""
        path = f"/v1/devices/{self.device}/store-share"
        self.wallet.reseal(self.platform.post_text(f"{path}/rotate", self.wallet.store_report()))
        self.platform.post_text(path, self.wallet.store_report())

    def open_again(self):
        """After a restart: the platform's share, if it has one, and the wallet with it."""
        report = store_report(self.storage)
        path = f"/v1/devices/{self.device}/store-share"
        share = report and self.platform.post_text(path, report)
        self.wallet = TapferWallet.open(self.storage, self.secret, share)

    def enrol_card(self, card):
        operator = Platform.as_operator()
        self.token = operator.post("/v1/tokens", {"card": card, "device": self.device})["id"]
        activation = {"actor": "issuer", "reason": "enrolled by a test"}
        operator.post(f"/v1/tokens/{self.token}/activate", activation)
        self.replenish()
        return self.token

    def enrol_another_card(self):
        """A card of its own, with money of its own, beside the first one."""
        operator = Platform.as_operator()
        _, first = tapfer("card", "show")
        card = operator.post("/v1/cards", {"issuer": first["issuer"], "expiry": "2031-12"})["id"]
        money = {"amount": 100_000, "currency": "EUR", "reference": "put there by a test"}
        operator.post(f"/v1/cards/{card}/top-ups", money)
        return self.enrol_card(card)

    def replenish(self):
        request = self.wallet.replenish_request(self.token)
        answer = self.platform.post_text(f"/v1/tokens/{self.token}/replenish", request)
        self.wallet.accept(self.token, answer)

    def set_pin(self, pin, old=None):
        request = self.wallet.set_pin(self.token, pin, old)
        answer = self.platform.post_text(f"/v1/tokens/{self.token}/pin", request)
        self.wallet.pin_answered(self.token, answer)
        self.replenish()

    def answer(self, command):
        before = getattr(self.storage, "replaced", 0)
        try:
            reply = self.wallet.handle_apdu(command, self.state)
        except WalletError as error:
            self.errors.append(error)
            return None
        self.order.append((command[1], getattr(self.storage, "replaced", 0) - before))
        self.news += reply.news
        return reply.response

    def asked(self):
        """What the person was asked to do, by any news that asks."""
        asks = [
            Ask.TURN_SCREEN_ON if isinstance(news, News.SCREEN_OFF) else getattr(news, "ask", None)
            for news in self.news
        ]
        return [ask for ask in asks if ask is not None]

    def status(self):
        [status] = [status for status in self.wallet.tokens() if status.token == self.token]
        return status


def payments_at_the_platform():
    listed = Platform.as_operator().get("/v1/payment-intents?limit=100")
    return [intent for intent in listed["data"] if intent["status"] == "succeeded"]


class Paying(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.phone = Phone().enrol()

    def setUp(self):
        self.phone.state = IN_HAND
        self.phone.news.clear()
        self.phone.errors.clear()
        self.phone.order.clear()

    def test_a_payment_is_approved_and_the_platform_knows_it(self):
        before = len(payments_at_the_platform())
        code, receipt = self.phone.field.pay("12.34")
        self.assertEqual((code, receipt.get("outcome")), (0, "approved"), receipt)
        paid = payments_at_the_platform()
        self.assertEqual(len(paid), before + 1)
        self.assertEqual(paid[0]["amount"], 1234)
        [sent] = [news for news in self.phone.news if isinstance(news, News.PAYMENT_SENT)]
        self.assertEqual((sent.token, sent.amount.text), (self.phone.token, "12.34 EUR"))
        self.assertEqual(sent.transaction_counter, self.phone.status().transaction_counter)

    def test_what_a_reply_depends_on_is_stored_before_it(self):
        self.phone.field.pay("1.00")
        stored = {instruction: writes for instruction, writes in self.phone.order}
        self.assertEqual(stored[0xA8], 1, "the counter, with GET PROCESSING OPTIONS")
        self.assertEqual(stored[0xAE], 1, "the key's use, with GENERATE AC")
        self.assertEqual(stored[0xB2], 0, "nothing, with READ RECORD")

    def test_a_storage_that_breaks_lets_no_reply_out(self):
        before = len(payments_at_the_platform())
        for broken in [StorageError.Failed("the disk is full"), RuntimeError("a bug in the app")]:
            self.phone.storage.broken = broken
            code, _ = self.phone.field.pay("1.00")
            self.phone.storage.broken = None
            self.assertEqual(code, 1)
            self.assertIsInstance(self.phone.errors.pop(), WalletError.Storage)
        self.assertEqual(len(payments_at_the_platform()), before)
        code, _ = self.phone.field.pay("1.00")
        self.assertEqual(code, 0, "and the wallet goes on afterwards")

    def test_the_person_is_asked_for_and_the_next_tap_pays(self):
        self.phone.state = DARK
        self.assertEqual(self.phone.field.pay("1.00")[0], 1)
        self.phone.state = IN_HAND
        self.assertEqual(self.phone.field.pay("60.00")[0], 1)
        self.assertEqual(self.phone.asked(), [Ask.TURN_SCREEN_ON, Ask.UNLOCK])
        self.phone.state = UNLOCKED
        self.assertEqual(self.phone.field.pay("60.00")[0], 0)

    def test_fresh_keys_come_and_the_counter_goes_on(self):
        self.phone.field.pay("1.00")
        before = self.phone.status()
        self.phone.replenish()
        after = self.phone.status()
        self.assertGreater(after.readiness.payments_left, before.readiness.payments_left)
        self.assertEqual(after.transaction_counter, before.transaction_counter)
        self.assertEqual(self.phone.field.pay("1.00")[0], 0)

    def test_a_wallet_that_is_opened_again_goes_on_paying(self):
        self.phone.open_again()
        code, receipt = self.phone.field.pay("2.00")
        self.assertEqual(code, 0, receipt)


class Pins(unittest.TestCase):
    def test_a_pin_pays_what_a_locked_phone_cannot_and_a_wrong_one_is_counted(self):
        phone = Phone().enrol()
        with self.assertRaises(WalletError.PersonRefused):
            phone.wallet.enter_pin(phone.token, "2580")
        phone.set_pin("2580")
        self.assertEqual(phone.status().pin, PinStanding.SET)
        self.assertEqual(phone.field.pay("60.00")[0], 1, "a locked phone, and no PIN")
        phone.wallet.enter_pin(phone.token, "2580")
        self.assertEqual(phone.status().pin, PinStanding.ENTERED)
        code, receipt = phone.field.pay("60.00")
        self.assertEqual((code, receipt.get("outcome")), (0, "approved"), receipt)
        self.assertEqual(phone.status().pin, PinStanding.SET, "one PIN, one payment")
        before = phone.status().pin_tries_left
        phone.wallet.enter_pin(phone.token, "2581")
        code, receipt = phone.field.pay("60.00")
        self.assertEqual((code, receipt.get("reason")), (1, "pin_wrong"), receipt)
        phone.replenish()
        self.assertEqual(phone.status().pin_tries_left, before - 1)
        phone.wallet.enter_pin(phone.token, "2580")
        self.assertEqual(phone.field.pay("60.00")[0], 0)

    def test_a_pin_that_was_forgotten_does_not_pay(self):
        phone = Phone().enrol()
        phone.set_pin("2580")
        phone.wallet.enter_pin(phone.token, "2580")
        self.assertIsNotNone(phone.wallet.pin_entered_until(phone.token))
        phone.wallet.forget_pins()
        self.assertIsNone(phone.wallet.pin_entered_until(phone.token))
        self.assertEqual(phone.field.pay("60.00")[0], 1)


class SeveralCards(unittest.TestCase):
    def test_each_card_has_a_pin_of_its_own(self):
        phone = Phone().enrol()
        first, second = phone.token, phone.enrol_another_card()
        for phone.token, pin in [(first, "2580"), (second, "1379")]:
            phone.set_pin(pin)
        phone.wallet.set_default_token(second)
        phone.wallet.enter_pin(first, "2580")
        self.assertEqual(phone.status().pin, PinStanding.SET, "entered for the other card")
        self.assertEqual(phone.field.pay("60.00")[0], 1)
        phone.wallet.enter_pin(second, "2580")
        code, receipt = phone.field.pay("60.00")
        self.assertEqual((code, receipt.get("reason")), (1, "pin_wrong"), receipt)
        left = {}
        for phone.token in [first, second]:
            phone.replenish()
            left[phone.token] = phone.status().pin_tries_left
        self.assertEqual(left[second], left[first] - 1, "counted for the card it was entered for")
        for phone.token, pin in [(second, "1379"), (first, "2580")]:
            phone.wallet.set_default_token(phone.token)
            phone.wallet.enter_pin(phone.token, pin)
            code, receipt = phone.field.pay("60.00")
            self.assertEqual(code, 0, receipt)


class Refusing(unittest.TestCase):
    def test_another_devices_secret_does_not_open_it(self):
        phone = Phone()
        with self.assertRaises(WalletError.Stored) as refused:
            TapferWallet.open(phone.storage, os.urandom(32), None)
        self.assertIn("does not open", str(refused.exception))

    def test_arguments_that_make_no_sense_are_told(self):
        phone = Phone()
        for wrong in [
            lambda: TapferWallet.open(Memory(), b"short", None),
            lambda: phone.wallet.replenish_request("no token"),
            lambda: phone.wallet.accept("tok_00000000000000000000000000", "{}"),
            lambda: phone.wallet.reseal("no share"),
        ]:
            with self.assertRaises(WalletError.Argument):
                wrong()
        with self.assertRaises(WalletError.UnknownToken):
            phone.wallet.forget_token("tok_00000000000000000000000000")
        with self.assertRaises(WalletError.UnknownToken):
            phone.wallet.data_envelopes("tok_00000000000000000000000000")

    def test_keys_for_another_phone_are_refused_and_change_nothing(self):
        mine, other = Phone().enrol(), Phone().enrol()
        request = other.wallet.replenish_request(other.token)
        answer = other.platform.post_text(f"/v1/tokens/{other.token}/replenish", request)
        mine.wallet.replenish_request(mine.token)
        sealed = mine.storage.sealed
        with self.assertRaises(WalletError.AnswerRefused):
            mine.wallet.accept(mine.token, answer)
        self.assertEqual(mine.storage.sealed, sealed)

    def test_bytes_that_are_no_command_get_a_status_word(self):
        phone = Phone()
        for command in [b"", b"\x00", b"\x00\xa4\x04\x00", os.urandom(300)]:
            self.assertEqual(len(phone.wallet.handle_apdu(command, IN_HAND).response), 2)


class Envelopes(unittest.TestCase):
    def test_what_terminals_stored_is_the_persons_to_erase(self):
        phone = Phone().enrol()
        self.assertEqual(phone.wallet.data_envelopes(phone.token), [])
        before = phone.storage.replaced
        phone.wallet.erase_data_envelopes(phone.token)
        self.assertEqual(phone.storage.replaced, before + 1, "it stays erased")


class Files(unittest.TestCase):
    def test_a_wallet_in_a_file_pays_and_is_one_wallet_at_a_time(self):
        with tempfile.TemporaryDirectory() as directory:
            phone = Phone(file_storage(directory)).enrol()
            self.assertEqual(phone.field.pay("3.00")[0], 0)
            with self.assertRaises(StorageError.Failed) as refused:
                file_storage(directory)
            self.assertIn("open already", str(refused.exception))
            self.assertIsNotNone(store_report(phone.storage), "it opens with the share only")

    def test_a_damaged_file_is_told_and_not_replaced(self):
        with tempfile.TemporaryDirectory() as directory:
            storage = file_storage(directory)
            storage.replace(b"not a wallet")
            with self.assertRaises(WalletError.Stored):
                TapferWallet.open(storage, os.urandom(32), None)
            self.assertEqual(storage.load(), b"not a wallet")


if __name__ == "__main__":
    unittest.main()

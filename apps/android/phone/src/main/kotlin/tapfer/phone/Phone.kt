package tapfer.phone

import java.io.IOException
import javax.net.ssl.SSLSocketFactory
import tapfer.wallet.DeviceState
import tapfer.wallet.Requirement
import tapfer.wallet.TapReply
import tapfer.wallet.TapferWallet
import tapfer.wallet.TokenStatus
import tapfer.wallet.WalletException
import tapfer.wallet.WalletStorage
import tapfer.wallet.storeReport

/**
 * A phone with its wallet: what an app does around a tap. Nothing here knows Android, so that it runs
 * in the tests of the project, on a Java machine, against the real platform and the real terminal.
 *
 * Everything but [answer], [fieldIsGone], [token], [forgetPins] and [withdrawFromQuestion] waits for the network or for a long
 * calculation: call it from a background thread. What talks to the platform does so one after another.
 */
class Phone private constructor(
    private val wallet: TapferWallet,
    private var enrolment: Enrolment?,
    private val trust: SSLSocketFactory?,
    private val alarm: Alarm,
) : AutoCloseable {

    /**
     * Makes the phone known to its issuer, moves the still empty store under the platform's share, and fetches the
     * first keys. [keep] makes the enrolment durable before
     * anything else is done: it holds an API key that is shown once. A phone that dies after that goes on
     * with [replenish].
     */
    @Synchronized
    fun enrol(issuerId: String, label: String, issuer: Issuer, keep: (Enrolment) -> Unit): Enrolment {
        val enrolled = issuer.register(wallet.registrationRequest(issuerId, label))
        keep(enrolled)
        enrolment = enrolled
        replenish()
        return enrolled
    }

    /**
     * Moves the store to the platform's next share, so that every copy of it that was made before is worthless, and
     * fetches fresh keys and a fresh certificate. In this order: no key ever lies in a store that opens without
     * the platform.
     */
    @Synchronized
    fun replenish() {
        val (enrolled, platform) = known()
        moveStore(enrolled, platform)
        val request = wallet.replenishRequest(enrolled.token)
        val answer = platform.post("/v1/tokens/${enrolled.token}/replenish", request)
        wallet.accept(enrolled.token, answer)
    }

    /**
     * At a start, when taps can have the phone already: moves the store of an enrolled phone to the next share. A
     * platform that is silent, or broken, must not keep the phone from paying; one that refuses must: then
     * close the phone.
     */
    @Synchronized
    fun moveStoreIfReached() {
        val enrolled = enrolment ?: return
        try {
            moveStore(enrolled, known().second)
        } catch (refused: PlatformRefused) {
            if (refused.isFinal) throw refused
        } catch (noNetwork: IOException) {
            return
        }
    }

    /** If the last step is lost, the next start of the wallet takes it: until then both shares are good. */
    private fun moveStore(enrolled: Enrolment, platform: Platform) {
        val path = "/v1/devices/${enrolled.device}/store-share"
        wallet.reseal(platform.post("$path/rotate", wallet.storeReport()))
        platform.post(path, wallet.storeReport())
    }

    /**
     * The person chooses a PIN, or changes it. [old] is needed when there is one and the issuer granted no
     * reset. Whether it was right, the platform says: [PlatformRefused]; then the old PIN stays.
     */
    @Synchronized
    fun setPin(pin: String, old: String?) {
        wallet.setPin(known().first.token, pin, old)
        finishPin()
    }

    /** Tells the platform a new PIN's key, if that is outstanding: a phone may die in between. */
    @Synchronized
    fun finishPin() {
        val (enrolled, platform) = known()
        val path = "/v1/tokens/${enrolled.token}/pin"
        val request = wallet.pinRequest(enrolled.token) ?: return
        try {
            wallet.pinAnswered(enrolled.token, platform.post(path, request))
        } catch (refused: PlatformRefused) {
            // Of anything else nobody knows yet whether it was taken: it is sent again, as it is.
            if (refused.isFinal) wallet.pinRefused(enrolled.token, platform.get(path).toString())
            throw refused
        }
        // Keys under the old PIN are gone.
        replenish()
    }

    /** The person enters the PIN for the next payment: good for one, within a minute, then forgotten. */
    fun enterPin(pin: String) {
        val token = known().first.token
        wallet.enterPin(token, pin)
        wallet.pinEnteredUntil(token)?.let { alarm.set(it, ::forgetPins) }
    }

    /** Forgets a PIN that was entered and not used: the app goes to the background. A closed phone has none. */
    fun forgetPins() = unlessClosed { wallet.forgetPins() }

    /**
     * For a button: the person does not want the payment that she was asked about. For a minute whatever comes next is
     * asked about, although the phone is unlocked by now. A closed phone asks nothing.
     */
    fun withdrawFromQuestion() = unlessClosed { wallet.withdrawFromQuestion() }

    private fun unlessClosed(act: () -> Unit) {
        try {
            act()
        } catch (closed: WalletException) {
            return
        } catch (closed: IllegalStateException) {
            return
        }
    }

    /** The person chooses what small payments need. */
    fun chooseLevel(level: Requirement) = wallet.chooseLevel(known().first.token, level)

    /**
     * Answers one command of a terminal, or nothing: then the phone must stay silent, because the wallet
     * could not be stored. The response goes to the terminal at once, which measures how long it takes;
     * the news is for the person, after that.
     */
    fun answer(command: ByteArray, device: DeviceState): TapReply? =
        try {
            wallet.handleApdu(command, device)
        } catch (broken: WalletException) {
            null
        } catch (closed: IllegalStateException) {
            null
        }

    /** The phone has left the field. */
    fun fieldIsGone() = wallet.deselect()

    /** The card on this phone, nothing before it is enrolled. */
    fun token(): TokenStatus? = wallet.tokens().firstOrNull()

    override fun close() {
        alarm.close()
        wallet.close()
    }

    private fun known(): Pair<Enrolment, Platform> {
        val enrolled = checkNotNull(enrolment) { "the phone is not enrolled yet" }
        return enrolled to Platform(enrolled.platform, enrolled.apiKey, trust)
    }

    companion object {
        /**
         * Opens the wallet. If the platform has a share in its key, the platform is asked for it, and
         * may withhold it: [PlatformRefused]. [moveStoreIfReached] comes next. [secret] is wiped when it has
         * been used.
         */
        fun open(
            storage: WalletStorage,
            secret: ByteArray,
            enrolment: Enrolment?,
            trust: SSLSocketFactory? = null,
            alarm: Alarm = ThreadAlarm(),
        ): Phone {
            try {
                val share = storeReport(storage)?.let { report ->
                    checkNotNull(enrolment) { "the wallet needs the platform, and nobody says where it is" }
                    val platform = Platform(enrolment.platform, enrolment.apiKey, trust)
                    platform.post("/v1/devices/${enrolment.device}/store-share", report)
                }
                return Phone(TapferWallet.open(storage, secret, share), enrolment, trust, alarm)
            } finally {
                secret.fill(0)
            }
        }
    }
}

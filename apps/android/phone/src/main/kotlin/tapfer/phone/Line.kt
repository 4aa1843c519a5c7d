package tapfer.phone

import tapfer.wallet.Ask
import tapfer.wallet.DeclineReason
import tapfer.wallet.News

/** Everything the phone has to say about a tap. The app has a text for each, in each language. */
enum class Line {
    PAYMENT_SENT,
    DECLINED_BY_TERMINAL,
    TERMINAL_TAKES_NO_PIN,
    MERCHANT_UNPROVEN,
    MERCHANT_REVOKED,
    MERCHANT_EXPIRED,
    MERCHANT_PRETENDED,
    MERCHANT_PROOF_WRONG,
    DATA_READ,
    DATA_WRITTEN,
    UNLOCK_DISCOURAGED,
    PIN_BLOCKED,
    TURN_SCREEN_ON,
    UNLOCK,
    ENTER_PIN,
    SET_PIN,
    LOG_IN,
    KEYS_RUN_LOW,
    NO_KEYS_LEFT,
    NO_PIN_KEYS_LEFT,
    CERTIFICATE_EXPIRED,
    CARD_WORN_OUT;

    /** Name of the text in `strings.xml`. */
    val textName: String get() = "line_" + name.lowercase()
}

/**
 * What to say, and about what: an amount, the name a terminal gave itself, the number of an envelope.
 * [merchant] is the name of who asked for the amount, where the terminal has proven that.
 */
class Said(val line: Line, val about: String? = null, val merchant: String? = null)

/** Nothing where the person has nothing to hear. */
fun News.said(): Said? =
    when (this) {
        is News.PaymentSent -> Said(Line.PAYMENT_SENT, amount.text, merchant?.name)
        is News.PaymentDeclined -> Said(reason.line(), amount.text, merchant?.name)
        is News.PersonNeeded -> Said(ask.line(), amount.text, merchant?.name)
        is News.MerchantRefused -> Said(if (revoked) Line.MERCHANT_REVOKED else Line.MERCHANT_EXPIRED, name)
        is News.MerchantProofWrong ->
            if (name == null) Said(Line.MERCHANT_PROOF_WRONG) else Said(Line.MERCHANT_PRETENDED, name)
        is News.DataRead -> Said(Line.DATA_READ, envelope.toString())
        is News.DataWritten -> Said(Line.DATA_WRITTEN, envelope.toString())
        is News.DiscouragedUnlock -> Said(Line.UNLOCK_DISCOURAGED)
        is News.ScreenOff -> Said(Line.TURN_SCREEN_ON)
        is News.ReplenishSoon -> Said(Line.KEYS_RUN_LOW)
        is News.PinUnconfirmed -> null
        is News.NoKeysLeft -> Said(Line.NO_KEYS_LEFT)
        is News.NoPinKeysLeft -> Said(Line.NO_PIN_KEYS_LEFT)
        is News.CertificateExpired -> Said(Line.CERTIFICATE_EXPIRED)
        is News.CounterExhausted -> Said(Line.CARD_WORN_OUT)
    }

private fun DeclineReason.line(): Line =
    when (this) {
        DeclineReason.TERMINAL_DECLINED -> Line.DECLINED_BY_TERMINAL
        DeclineReason.TERMINAL_TAKES_NO_PIN -> Line.TERMINAL_TAKES_NO_PIN
        DeclineReason.MERCHANT_UNPROVEN -> Line.MERCHANT_UNPROVEN
        DeclineReason.PIN_BLOCKED -> Line.PIN_BLOCKED
    }

private fun Ask.line(): Line =
    when (this) {
        Ask.TURN_SCREEN_ON -> Line.TURN_SCREEN_ON
        Ask.UNLOCK -> Line.UNLOCK
        Ask.ENTER_PIN -> Line.ENTER_PIN
        Ask.SET_PIN -> Line.SET_PIN
        Ask.LOG_IN -> Line.LOG_IN
    }

/** After which news the app should ask the platform: for keys, or whether a PIN was right. */
fun News.wantsKeys(): Boolean =
    when (this) {
        is News.ReplenishSoon, is News.PinUnconfirmed -> true
        is News.NoKeysLeft, is News.NoPinKeysLeft, is News.CertificateExpired -> true
        else -> false
    }

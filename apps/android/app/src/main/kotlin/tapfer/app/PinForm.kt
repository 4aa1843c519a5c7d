package tapfer.app

import android.content.Context
import android.text.InputType
import android.view.View
import android.widget.Button
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.TextView
import tapfer.wallet.PinStanding
import tapfer.wallet.TokenStatus

/**
 * The PIN on the screen: chosen where there is none, entered for the next payment where there is one, and
 * changed, with how many wrong ones the platform still forgives. Digits are handed on once and cleared; nothing here can tell whether they are right.
 */
class PinForm(
    context: Context,
    private val enter: (String) -> Unit,
    private val set: (pin: String, old: String?) -> Unit,
) : LinearLayout(context) {
    private val pin = digits(context)
    private val new = digits(context).apply { hint = context.getString(R.string.pin_new) }
    private val left = TextView(context)
    private val act = Button(context)
    private val change = Button(context).apply { text = context.getString(R.string.pin_change) }
    private var standing = PinStanding.NOT_SET

    init {
        orientation = VERTICAL
        listOf(left, pin, new, act, change).forEach(::addView)
        act.setOnClickListener {
            val digits = taken(pin)
            if (standing == PinStanding.NOT_SET) set(digits, null) else enter(digits)
        }
        change.setOnClickListener {
            if (new.visibility == View.VISIBLE) set(taken(new), taken(pin)) else reveal(new)
        }
    }

    /** Shows what can be done with the PIN of this card; nothing if its issuer has none. */
    fun show(card: TokenStatus?) {
        visibility = if (card == null || card.pinTriesLeft == null) View.GONE else View.VISIBLE
        standing = card?.pin ?: PinStanding.NOT_SET
        val isSet = standing != PinStanding.NOT_SET
        pin.hint = context.getString(if (isSet) R.string.pin_enter else R.string.pin_choose, card?.policy?.pinLength?.toInt())
        act.text = context.getString(if (isSet) R.string.pin_pay else R.string.pin_set)
        change.visibility = if (isSet) View.VISIBLE else View.GONE
        new.visibility = View.GONE
        listOf(pin, new, act, change).forEach { it.isEnabled = standing != PinStanding.BLOCKED }
        val tries = card?.pinTriesLeft?.toInt() ?: 0
        left.text = context.getString(R.string.pin_tries_left, tries)
        left.visibility = if (isSet) View.VISIBLE else View.GONE
    }

    private fun reveal(field: View) {
        field.visibility = View.VISIBLE
    }

    private fun taken(field: EditText) = field.text.toString().also { field.text.clear() }

    private fun digits(context: Context) =
        EditText(context).apply {
            inputType = InputType.TYPE_CLASS_NUMBER or InputType.TYPE_NUMBER_VARIATION_PASSWORD
            // Neither suggestions nor the clipboard get to see it.
            importantForAutofill = View.IMPORTANT_FOR_AUTOFILL_NO
            isLongClickable = false
        }
}

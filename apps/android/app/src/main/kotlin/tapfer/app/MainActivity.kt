package tapfer.app

import android.app.Activity
import android.content.ComponentName
import android.content.Intent
import android.nfc.NfcAdapter
import android.nfc.cardemulation.CardEmulation
import android.os.Build
import android.os.Bundle
import android.text.InputType
import android.view.Gravity
import android.view.View
import android.view.WindowManager
import android.widget.Button
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.TextView
import tapfer.phone.Phone
import tapfer.phone.PlatformRefused

/** One screen: put the card on the phone, see that it is ready, see what became of a tap. */
class MainActivity : Activity() {
    private val shared get() = TapferApplication.of(this)
    private lateinit var message: TextView
    private lateinit var code: EditText
    private lateinit var enrol: Button
    private lateinit var withdraw: Button
    private lateinit var pin: PinForm

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        // Neither screenshots nor the list of recent apps show a PIN.
        window.setFlags(WindowManager.LayoutParams.FLAG_SECURE, WindowManager.LayoutParams.FLAG_SECURE)
        message = TextView(this).apply { textSize = 22f; gravity = Gravity.CENTER }
        code = EditText(this).apply {
            hint = getString(R.string.enrol_login)
            inputType = InputType.TYPE_CLASS_TEXT or InputType.TYPE_TEXT_VARIATION_PASSWORD
        }
        enrol = Button(this).apply {
            text = getString(R.string.enrol)
            setOnClickListener { enrol() }
        }
        withdraw = Button(this).apply {
            text = getString(R.string.withdraw)
            setOnClickListener {
                shared.phone?.withdrawFromQuestion()
                refresh()
            }
        }
        pin = PinForm(
            this,
            enter = { digits -> change { it.enterPin(digits) } },
            set = { digits, old -> change { it.setPin(digits, old) } },
        )
        setContentView(
            LinearLayout(this).apply {
                orientation = LinearLayout.VERTICAL
                gravity = Gravity.CENTER
                setPadding(48, 48, 48, 48)
                // Another app's window on top must not get the person to tap what she does not see.
                filterTouchesWhenObscured = true
                listOf(message, pin, withdraw, code, enrol).forEach(::addView)
            },
        )
        refresh()
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        refresh()
    }

    /** While the app is in front, its card is asked first, whichever the person chose as the default. */
    override fun onResume() {
        super.onResume()
        cardEmulation()?.setPreferredService(this, ComponentName(this, CardService::class.java))
    }

    override fun onPause() {
        cardEmulation()?.unsetPreferredService(this)
        super.onPause()
    }

    /** A PIN that was entered belongs to whoever holds the phone with this screen on it. */
    override fun onStop() {
        // At once, and not behind whatever waits for the network in the background; and once more behind it, where
        // a PIN may still be waiting to be entered.
        shared.phone?.forgetPins()
        shared.background.execute { shared.phone?.forgetPins() }
        super.onStop()
    }

    private fun cardEmulation() = NfcAdapter.getDefaultAdapter(this)?.let(CardEmulation::getInstance)

    private fun refresh() {
        val said = shared.takeSaid()
        if (said != null) message.text = said
        inBackground(::readiness) { if (said == null) message.text = it }
        val isEnrolled = shared.enrolment() != null
        listOf(code, enrol).forEach { it.visibility = if (isEnrolled) View.GONE else View.VISIBLE }
        withdraw.visibility = if (isEnrolled) View.VISIBLE else View.GONE
    }

    private fun readiness(): String {
        if (shared.enrolment() == null) return getString(R.string.app_name)
        // Also after an enrolment that was cut off before its first keys.
        ReplenishWorker.regularly(this)
        val phone = try {
            shared.open()
        } catch (withheld: PlatformRefused) {
            return getString(R.string.stopped)
        }
        val card = phone.token()
        runOnUiThread { pin.show(card) }
        val left = card?.readiness?.paymentsLeft ?: return getString(R.string.not_ready)
        return getString(R.string.ready, left.toInt())
    }

    private fun change(work: (Phone) -> Unit) {
        inBackground({
            val phone = shared.open()
            try {
                work(phone)
            } finally {
                // Also after a wrong old PIN: one try is gone.
                val card = phone.token()
                runOnUiThread { pin.show(card) }
            }
            readiness()
        }) { message.text = it }
    }

    private fun enrol() {
        val issuer = IssuerServer(BuildConfig.ISSUER_SERVER, code.text.toString())
        code.text.clear()
        message.text = getString(R.string.enrol_running)
        inBackground({
            shared.open().enrol(BuildConfig.ISSUER_ID, Build.MODEL, issuer, shared::keep)
            readiness()
        }) {
            refresh()
            message.text = it
        }
    }

    private fun inBackground(work: () -> String, show: (String) -> Unit) {
        shared.background.execute {
            val text = runCatching(work).getOrElse { getString(R.string.failed, it.message) }
            runOnUiThread { show(text) }
        }
    }
}

package tapfer.app

import android.app.KeyguardManager
import android.nfc.cardemulation.HostApduService
import android.os.Bundle
import android.os.Handler
import android.os.Looper
import android.os.PowerManager
import tapfer.phone.said
import tapfer.phone.wantsKeys
import tapfer.wallet.DeviceState
import tapfer.wallet.News
import tapfer.wallet.UnlockMethod

/**
 * The card in the field. The system brings every command here, on the main thread, and takes the
 * answer back: there is no time for the network, and none is needed.
 */
class CardService : HostApduService() {
    private val shared get() = TapferApplication.of(this)
    private val main = Handler(Looper.getMainLooper())

    override fun onCreate() {
        super.onCreate()
        // The system may have started the process for this tap. Where the platform has a share in the
        // wallet's key, opening takes the network; until then commands are answered with a refusal.
        if (shared.phone == null) {
            shared.background.execute { runCatching { shared.open() } }
        }
    }

    override fun processCommandApdu(command: ByteArray, extras: Bundle?): ByteArray? {
        val phone = shared.phone ?: return NOT_READY
        val reply = phone.answer(command, deviceState()) ?: return null
        // After the answer has gone out: the terminal measures the time, and nothing here may cost the tap.
        if (reply.news.isNotEmpty()) main.post { tell(reply.news) }
        return reply.response
    }

    override fun onDeactivated(reason: Int) {
        shared.phone?.fieldIsGone()
    }

    private fun tell(news: List<News>) {
        val said = news.mapNotNull(News::said)
        if (said.isNotEmpty()) Screen.show(applicationContext, said)
        if (news.any(News::wantsKeys)) ReplenishWorker.soon(applicationContext)
    }

    private fun deviceState(): DeviceState {
        val keyguard = getSystemService(KeyguardManager::class.java)
        return DeviceState(
            screenOn = getSystemService(PowerManager::class.java).isInteractive,
            // A phone without a lock is never locked, in whoever's hands.
            unlocked = keyguard.isDeviceSecure && !keyguard.isDeviceLocked,
            // Android does not say which method it is.
            unlockMethod = if (keyguard.isDeviceSecure) UnlockMethod.UNKNOWN else UnlockMethod.NONE,
            integrityVerdict = 0u,
        )
    }

    private companion object {
        /** `6985`, conditions of use not satisfied (ISO/IEC 7816-4): this tap ends, a later one pays. */
        val NOT_READY = byteArrayOf(0x69, 0x85.toByte())
    }
}

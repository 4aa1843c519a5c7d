package tapfer.app

import android.app.KeyguardManager
import android.nfc.cardemulation.HostApduService
import android.os.Bundle
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
        return phone.answer(command, deviceState(), ::tell)
    }

    override fun onDeactivated(reason: Int) {
        shared.phone?.fieldIsGone()
    }

    private fun tell(news: News) {
        if (news.wantsKeys()) ReplenishWorker.soon(this)
        Screen.show(this, news.said())
    }

    private fun deviceState() =
        DeviceState(
            screenOn = getSystemService(PowerManager::class.java).isInteractive,
            unlocked = !getSystemService(KeyguardManager::class.java).isDeviceLocked,
            // Android does not say which method it is.
            unlockMethod = unlockMethod(),
            integrityVerdict = 0u,
        )

    private fun unlockMethod(): UnlockMethod {
        val keyguard = getSystemService(KeyguardManager::class.java)
        return if (keyguard.isDeviceSecure) UnlockMethod.UNKNOWN else UnlockMethod.NONE
    }

    private companion object {
        /** `6985`, conditions of use not satisfied (ISO/IEC 7816-4): the terminal says "see phone". */
        val NOT_READY = byteArrayOf(0x69, 0x85.toByte())
    }
}

package tapfer.app

import android.app.Application
import android.content.Context
import android.os.SystemClock
import java.io.File
import java.util.concurrent.Executors
import tapfer.phone.Enrolment
import tapfer.phone.EnrolmentStore
import tapfer.phone.Phone
import tapfer.wallet.fileStorage

/**
 * The one phone of this process. Two wallets over the same file would use a counter twice, so screen,
 * card service and background work all share this one.
 */
class TapferApplication : Application() {
    /** For everything that waits for disk or network. One thread: a second one would wait for the wallet. */
    val background = Executors.newSingleThreadExecutor()

    private val storage by lazy { fileStorage(directory.path) }

    /** Below the folder that no backup takes. */
    private val directory get() = File(noBackupFilesDir, "wallet")

    private val kept by lazy { EnrolmentStore(File(noBackupFilesDir, "enrolment.sealed"), DeviceSecret) }

    @Volatile private var opened: Phone? = null

    /** The phone if it is open already: for a tap, which cannot wait for the network. */
    val phone: Phone? get() = opened

    /**
     * Opens the phone. Waits for the platform, if that has a share in the wallet's key. Taps can have the phone as
     * soon as it is open, and do not wait for the store to move on.
     */
    @Synchronized
    fun open(): Phone {
        opened?.let { return it }
        val phone = Phone.open(storage, DeviceSecret.ofThisPhone(), enrolment())
        opened = phone
        try {
            phone.moveStoreIfReached()
        } catch (refused: Exception) {
            opened = null
            phone.close()
            throw refused
        }
        return phone
    }

    fun enrolment(): Enrolment? = kept.load()

    fun keep(enrolment: Enrolment) = kept.keep(enrolment)

    /** What the phone said last, for the screen: handed over in here, so that no other app can say anything. */
    @Volatile private var said: Pair<String, Long>? = null

    fun say(words: String) {
        said = words to SystemClock.elapsedRealtime()
    }

    /** What was said and not shown yet; nothing if that was long ago, and the screen could not be started then. */
    fun takeSaid(): String? {
        val (words, at) = said ?: return null
        said = null
        return words.takeIf { SystemClock.elapsedRealtime() - at < SAID_FOR_MILLIS }
    }

    companion object {
        private const val SAID_FOR_MILLIS = 60_000L

        fun of(context: Context) = context.applicationContext as TapferApplication
    }
}

package tapfer.app

import android.content.Context
import androidx.work.BackoffPolicy
import androidx.work.Constraints
import androidx.work.ExistingPeriodicWorkPolicy
import androidx.work.ExistingWorkPolicy
import androidx.work.NetworkType
import androidx.work.OneTimeWorkRequestBuilder
import androidx.work.PeriodicWorkRequestBuilder
import androidx.work.WorkManager
import androidx.work.Worker
import androidx.work.WorkerParameters
import java.io.IOException
import java.util.concurrent.TimeUnit
import tapfer.phone.PlatformRefused

/** Fetches keys in the background: every few hours, and as soon as the wallet says that it runs low. */
class ReplenishWorker(context: Context, parameters: WorkerParameters) : Worker(context, parameters) {
    override fun doWork(): Result =
        try {
            val application = TapferApplication.of(applicationContext)
            if (application.enrolment() != null) {
                val phone = application.open()
                phone.finishPin()
                phone.replenish()
            }
            Result.success()
        } catch (refused: PlatformRefused) {
            // Stopped, deleted or rolled back: asking again changes nothing, the person has to.
            if (refused.isFinal) Result.failure() else Result.retry()
        } catch (noNetwork: IOException) {
            Result.retry()
        }

    companion object {
        private const val REGULARLY = "replenish-regularly"
        private const val SOON = "replenish-soon"
        private const val EVERY_HOURS = 6L
        private const val FIRST_RETRY_SECONDS = 30L
        private const val BEHIND_THE_TAP_SECONDS = 10L

        private val online = Constraints.Builder().setRequiredNetworkType(NetworkType.CONNECTED).build()

        /** Keys live for hours; this comes before they end. */
        fun regularly(context: Context) {
            val work = PeriodicWorkRequestBuilder<ReplenishWorker>(EVERY_HOURS, TimeUnit.HOURS)
                .setConstraints(online)
                .build()
            WorkManager.getInstance(context)
                .enqueueUniquePeriodicWork(REGULARLY, ExistingPeriodicWorkPolicy.KEEP, work)
        }

        fun soon(context: Context) {
            val work = OneTimeWorkRequestBuilder<ReplenishWorker>()
                .setConstraints(online)
                // What asks for keys is a tap, and taking them in would cut it short.
                .setInitialDelay(BEHIND_THE_TAP_SECONDS, TimeUnit.SECONDS)
                .setBackoffCriteria(BackoffPolicy.EXPONENTIAL, FIRST_RETRY_SECONDS, TimeUnit.SECONDS)
                .build()
            WorkManager.getInstance(context).enqueueUniqueWork(SOON, ExistingWorkPolicy.KEEP, work)
        }
    }
}

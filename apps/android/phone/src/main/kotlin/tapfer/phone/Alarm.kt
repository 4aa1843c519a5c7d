package tapfer.phone

import java.time.Duration
import java.time.Instant
import java.util.concurrent.Executors
import java.util.concurrent.Future
import java.util.concurrent.TimeUnit

/** Does one thing at a point in time. */
interface Alarm : AutoCloseable {
    /** [work] is done at this time, in place of what was to be done before. */
    fun set(at: Instant, work: () -> Unit)
}

/** An alarm in this process. While the phone sleeps nothing rings; then it is late, not lost. */
class ThreadAlarm : Alarm {
    private val thread = Executors.newSingleThreadScheduledExecutor { Thread(it, "alarm").apply { isDaemon = true } }
    private var next: Future<*>? = null

    @Synchronized
    override fun set(at: Instant, work: () -> Unit) {
        next?.cancel(false)
        val wait = Duration.between(Instant.now(), at)
        next = thread.schedule(work, wait.toMillis(), TimeUnit.MILLISECONDS)
    }

    override fun close() {
        thread.shutdownNow()
    }
}

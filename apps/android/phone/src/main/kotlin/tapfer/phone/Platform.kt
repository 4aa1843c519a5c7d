package tapfer.phone

import java.io.IOException
import java.net.HttpURLConnection
import java.net.URL
import java.util.UUID
import javax.net.ssl.HttpsURLConnection
import javax.net.ssl.SSLSocketFactory
import org.json.JSONObject

/** The platform refused a request; `problem` is its stable name, such as `store_rolled_back`. */
class PlatformRefused(val status: Int, val problem: String, detail: String) :
    IOException("the platform refused ($status $problem): $detail") {

    /** The request had no effect and never will have: what it asks for cannot be. */
    val isFinal get() = status in 400..499 && problem != "idempotency_in_progress"
}

/**
 * The platform's HTTP interface in this phone's name. Blocks: call it from a background thread.
 *
 * [trust] pins the platform's own certificate authority; without it the system's authorities count.
 */
class Platform(
    private val address: String,
    private val apiKey: String,
    private val trust: SSLSocketFactory? = null,
) {
    fun get(path: String): JSONObject = JSONObject(ask("GET", path, null))

    /** As text both ways: what the wallet made goes out, and what it takes comes in, unread. */
    fun post(path: String, body: String): String = ask("POST", path, body)

    private fun ask(method: String, path: String, body: String?): String {
        val connection = URL(address + path).openConnection() as HttpURLConnection
        try {
            if (connection is HttpsURLConnection && trust != null) connection.sslSocketFactory = trust
            connection.requestMethod = method
            connection.connectTimeout = PATIENCE_MILLIS
            connection.readTimeout = PATIENCE_MILLIS
            connection.setRequestProperty("Authorization", "Bearer $apiKey")
            if (body != null) {
                connection.doOutput = true
                connection.setRequestProperty("Content-Type", "application/json")
                connection.setRequestProperty("Idempotency-Key", UUID.randomUUID().toString())
                connection.outputStream.use { it.write(body.toByteArray()) }
            }
            if (connection.responseCode in 200..299) return connection.inputStream.readText()
            throw refusal(connection)
        } finally {
            connection.disconnect()
        }
    }

    /** An RFC 9457 problem, if that is what came. */
    private fun refusal(connection: HttpURLConnection): PlatformRefused {
        val status = connection.responseCode
        val problem = runCatching { JSONObject(connection.errorStream.readText()) }.getOrNull()
        val name = problem?.optString("type").orEmpty().substringAfterLast(':')
        return PlatformRefused(status, name, problem?.optString("detail").orEmpty())
    }

    private fun java.io.InputStream.readText() = use { it.readBytes().decodeToString() }

    private companion object {
        const val PATIENCE_MILLIS = 30_000
    }
}

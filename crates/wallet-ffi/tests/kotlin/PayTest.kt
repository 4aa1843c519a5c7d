/**
 * A phone whose app is written in Kotlin: enrols, pays and replenishes through the generated bindings and
 * the sample app's own classes, against the real platform and the real terminal.
 *
 * Arguments: the `tapfer` binary, home directory and address of the platform, the sample app's resources.
 */

import java.io.DataInputStream
import java.io.DataOutputStream
import java.io.File
import java.net.InetAddress
import java.net.ServerSocket
import java.security.KeyStore
import java.security.SecureRandom
import java.security.cert.CertificateFactory
import java.time.Instant
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit
import javax.net.ssl.SSLContext
import javax.net.ssl.SSLSocketFactory
import javax.net.ssl.TrustManagerFactory
import kotlin.concurrent.thread
import kotlin.system.exitProcess
import org.json.JSONObject
import tapfer.phone.Alarm
import tapfer.phone.Enrolment
import tapfer.phone.EnrolmentStore
import tapfer.phone.Issuer
import tapfer.phone.Line
import tapfer.phone.Phone
import tapfer.phone.Platform
import tapfer.phone.PlatformRefused
import tapfer.phone.Seal
import tapfer.phone.ThreadAlarm
import tapfer.phone.said
import tapfer.phone.wantsKeys
import tapfer.wallet.DeviceState
import tapfer.wallet.News
import tapfer.wallet.PinStanding
import tapfer.wallet.StorageException
import tapfer.wallet.TapferWallet
import tapfer.wallet.UnlockMethod
import tapfer.wallet.WalletException
import tapfer.wallet.WalletStorage
import tapfer.wallet.fileStorage
import tapfer.wallet.storeReport

const val PATIENCE_SECONDS = 120L

lateinit var tapfer: String
lateinit var home: File
lateinit var server: String
lateinit var resources: File

fun device(screenOn: Boolean = true, unlocked: Boolean = false) =
    DeviceState(screenOn, unlocked, UnlockMethod.PIN, 0u)

fun secret() = ByteArray(32).also(SecureRandom()::nextBytes)

/** The platform's own certificate authority, as an app pins it. */
val trust: SSLSocketFactory by lazy {
    val pem = File(home, "tls/ca-certificate.pem").inputStream()
    val keys = KeyStore.getInstance(KeyStore.getDefaultType()).apply { load(null) }
    keys.setCertificateEntry("platform", CertificateFactory.getInstance("X.509").generateCertificate(pem))
    val managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm())
    managers.init(keys)
    SSLContext.getInstance("TLS").apply { init(null, managers.trustManagers, null) }.socketFactory
}

val operator by lazy { Platform(server, File(home, "operator.key").readText().trim(), trust) }

fun run(vararg arguments: String): Pair<Int, JSONObject> {
    val command = listOf(tapfer, *arguments, "--json", "--home", home.path)
    val process = ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start()
    val said = process.inputStream.readBytes().decodeToString()
    check(process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS)) { "$command takes too long" }
    return process.exitValue() to if (said.isBlank()) JSONObject() else JSONObject(said)
}

/** What the issuer's own server does for its app. */
val issuer = Issuer { registration ->
    val card = run("card", "show").second.getString("id")
    val device = JSONObject(operator.post("/v1/devices", registration))
    val id = device.getString("id")
    val wanted = JSONObject().put("card", card).put("device", id).toString()
    val token = JSONObject(operator.post("/v1/tokens", wanted)).getString("id")
    operator.post("/v1/tokens/$token/activate", """{"actor":"issuer","reason":"enrolled by a test"}""")
    Enrolment(server, id, device.getString("api_key"), token)
}

class Memory : WalletStorage {
    var sealed: ByteArray? = null
    var broken = false

    override fun load() = sealed

    override fun replace(sealed: ByteArray) {
        if (broken) throw StorageException.Failed("the disk is full")
        this.sealed = sealed
    }
}

/** Holds the phone to the terminal; the terminal's exit code and receipt. */
fun Phone.pay(
    amount: String,
    state: DeviceState = device(),
    tell: (News) -> Unit = {},
): Pair<Int, JSONObject> =
    ServerSocket(0, 1, InetAddress.getLoopbackAddress()).use { listener ->
        val card = thread { runCatching { answerAll(listener, state, tell) } }
        val address = "127.0.0.1:${listener.localPort}"
        val receipt = run("terminal", "pay", "--one-tap", "--card-at", address, "--amount", amount)
        card.join()
        receipt
    }

/** The frames of the test reader: two bytes of length, then the message. */
fun Phone.answerAll(listener: ServerSocket, state: DeviceState, tell: (News) -> Unit) {
    listener.accept().use { reader ->
        reader.tcpNoDelay = true
        val commands = DataInputStream(reader.getInputStream().buffered())
        val answers = DataOutputStream(reader.getOutputStream().buffered())
        while (true) {
            val message = ByteArray(commands.readUnsignedShort()).also(commands::readFully)
            if (message.size < 4) {
                fieldIsGone()
                continue
            }
            val reply = answer(message, state) ?: return
            answers.writeShort(reply.response.size)
            answers.write(reply.response)
            answers.flush()
            reply.news.forEach(tell)
        }
    }
}

fun succeeded() = buildList {
    val listed = operator.get("/v1/payment-intents?limit=100").getJSONArray("data")
    for (position in 0 until listed.length()) {
        val intent = listed.getJSONObject(position)
        if (intent.getString("status") == "succeeded") add(intent.getLong("amount"))
    }
}

fun aPaymentIsApprovedAndThePlatformKnowsIt() {
    val phone = enrolled()
    val before = succeeded().size
    val news = mutableListOf<News>()
    val (code, receipt) = phone.pay("12.34", tell = news::add)
    check(code == 0 && receipt.getString("outcome") == "approved") { receipt }
    val paid = succeeded()
    check(paid.size == before + 1 && paid.first() == 1234L) { paid }
    val sent = news.filterIsInstance<News.PaymentSent>().single()
    check(sent.amount.text == "12.34 EUR" && sent.said()?.line == Line.PAYMENT_SENT)
    val shop = run("merchant", "show").second.getString("name")
    check(sent.said()?.about == "12.34 EUR" && sent.said()?.merchant == shop) { "${sent.said()?.merchant}, not $shop" }
    check(phone.token()?.transactionCounter == sent.transactionCounter)
    phone.close()
}

fun thePersonIsAskedForAndTheNextTapPays() {
    val phone = enrolled()
    val lines = mutableListOf<Line>()
    val tell = { news: News -> news.said()?.let { lines.add(it.line) }; Unit }
    check(phone.pay("1.00", device(screenOn = false), tell).first == 1)
    check(phone.pay("60.00", tell = tell).first == 1)
    check(lines == listOf(Line.TURN_SCREEN_ON, Line.UNLOCK)) { lines }
    check(phone.pay("60.00", device(unlocked = true)).first == 0)
    phone.close()
}

fun freshKeysComeAndTheCounterGoesOn() {
    val phone = enrolled()
    phone.pay("1.00")
    val before = checkNotNull(phone.token())
    phone.replenish()
    val after = checkNotNull(phone.token())
    check(after.readiness.paymentsLeft > before.readiness.paymentsLeft)
    check(after.transactionCounter == before.transactionCounter)
    check(phone.pay("1.00").first == 0)
    phone.close()
}

fun aPinPaysWhatALockedPhoneCannotAndAWrongOneIsCounted() {
    val phone = enrolled()
    phone.setPin("2580", null)
    check(phone.pay("60.00").first == 1) { "a locked phone, and no PIN" }
    phone.enterPin("2580")
    val (code, receipt) = phone.pay("60.00")
    check(code == 0 && receipt.getString("outcome") == "approved") { receipt }
    val before = checkNotNull(phone.token()?.pinTriesLeft)
    phone.enterPin("2581")
    val (refused, declined) = phone.pay("60.00")
    check(refused == 1 && declined.getString("reason") == "pin_wrong") { declined }
    phone.replenish()
    check(phone.token()?.pinTriesLeft == (before - 1u).toUByte())
    phone.setPin("1379", "2580")
    phone.enterPin("1379")
    check(phone.pay("60.00").first == 0)
    phone.close()
}

fun aPinThatWasNotUsedIsForgottenWhenItsMinuteIsOver() {
    val minute = object : Alarm {
        var isOver = {}
        override fun set(at: Instant, work: () -> Unit) { isOver = work }
        override fun close() = Unit
    }
    val phone = enrolled(alarm = minute)
    phone.setPin("2580", null)
    phone.enterPin("2580")
    check(phone.token()?.pin == PinStanding.ENTERED)
    minute.isOver()
    check(phone.token()?.pin == PinStanding.SET)
    check(phone.pay("60.00").first == 1)
    phone.close()
}

fun anAlarmRingsOnceForWhatWasSetLast() {
    val rung = LinkedBlockingQueue<String>()
    ThreadAlarm().use { alarm ->
        alarm.set(Instant.now().plusSeconds(PATIENCE_SECONDS / 2)) { rung.add("first") }
        alarm.set(Instant.now()) { rung.add("second") }
        check(rung.poll(PATIENCE_SECONDS, TimeUnit.SECONDS) == "second") { "$rung" }
    }
}

fun aStorageThatBreaksLetsNoReplyOut() {
    val storage = Memory()
    val phone = enrolled(storage)
    val before = succeeded().size
    storage.broken = true
    check(phone.pay("1.00").first == 1)
    check(succeeded().size == before)
    storage.broken = false
    check(phone.pay("1.00").first == 0)
    phone.close()
}

fun aWalletInAFileIsOneWalletAtATimeAndOpensAgain() {
    val directory = File(home, "kotlin-wallet").path
    val key = secret()
    val storage = fileStorage(directory)
    val phone = Phone.open(storage, key.copyOf(), null, trust)
    val enrolment = phone.enrol(issuerOfTheCard(), "phone in Kotlin", issuer) {}
    check(runCatching { fileStorage(directory) }.exceptionOrNull() is StorageException.Failed)
    phone.close()
    (storage as AutoCloseable).close()
    val kept = Enrolment.fromJson(enrolment.toJson())
    check(enrolment.apiKey !in kept.toString())
    val again = Phone.open(fileStorage(directory), key, kept, trust)
    check(key.all { it == 0.toByte() }) { "the secret is wiped when it has been used" }
    check(again.pay("2.00").first == 0)
    again.close()
}

fun anotherDevicesSecretDoesNotOpenIt() {
    val storage = Memory()
    TapferWallet.open(storage, secret(), null).close()
    val refused = runCatching { TapferWallet.open(storage, secret(), null) }.exceptionOrNull()
    check(refused is WalletException.Stored && "does not open" in refused.message.orEmpty()) { "$refused" }
}

/** The API key is shown once: it is kept before anything can go wrong behind it. */
fun aPhoneThatDiesBehindItsRegistrationGoesOnWithTheKeyItKept() {
    val (storage, key) = Memory() to secret()
    var kept: Enrolment? = null
    val phone = Phone.open(storage, key.copyOf(), null, trust)
    val died = runCatching {
        phone.enrol(issuerOfTheCard(), "phone in Kotlin", issuer) {
            kept = it
            storage.broken = true
        }
    }
    check(died.isFailure && kept != null)
    phone.close()
    storage.broken = false
    val again = Phone.open(storage, key, kept, trust)
    check(again.token() == null)
    again.moveStoreIfReached()
    check(storeReport(storage) != null) { "moved before there are keys" }
    again.replenish()
    check(again.pay("1.00").first == 0)
    again.close()
}

fun anEnrolmentIsKeptSealedAndReplacedWhole() {
    val seal = object : Seal {
        override fun seal(content: ByteArray) = ByteArray(content.size) { (content[it].toInt() xor 0x55).toByte() }
        override fun open(sealed: ByteArray) = seal(sealed)
    }
    val file = File(home, "enrolment.sealed")
    val store = EnrolmentStore(file, seal)
    check(store.load() == null)
    for (token in listOf("tok_1", "tok_2")) {
        store.keep(Enrolment(server, "dev_1", "tapfer_device_secret", token))
        check(EnrolmentStore(file, seal).load()?.token == token)
    }
    check("tapfer_device" !in file.readText() && !File(file.path + ".new").exists())
}

/** Whoever has copied the store, and has the secret and the API key as well, has nothing once the phone went on. */
fun aCopyOfTheStoreIsWorthlessAfterTheNextKeys() {
    val (storage, key) = Memory() to secret()
    val phone = Phone.open(storage, key.copyOf(), null, trust)
    val enrolment = phone.enrol(issuerOfTheCard(), "phone in Kotlin", issuer) {}
    val copy = Memory().apply { sealed = storage.sealed }
    phone.replenish()
    val refused = runCatching { Phone.open(copy, key.copyOf(), enrolment, trust) }.exceptionOrNull()
    check(refused is PlatformRefused) { "$refused" }
    phone.close()
    val again = Phone.open(storage, key, enrolment, trust)
    check(again.pay("1.00").first == 0)
    again.close()
}

/** Not even the first keys: whoever copies the storage at any moment, and has the secret, opens no keys with it. */
fun noKeyEverLiesInAStoreThatOpensWithoutThePlatform() {
    val copies = mutableListOf<ByteArray>()
    val storage = object : WalletStorage {
        var sealed: ByteArray? = null
        override fun load() = sealed
        override fun replace(sealed: ByteArray) {
            this.sealed = sealed
            copies.add(sealed)
        }
    }
    val key = secret()
    val phone = Phone.open(storage, key.copyOf(), null, trust)
    phone.enrol(issuerOfTheCard(), "phone in Kotlin", issuer) {}
    check(copies.size >= 3) { "${copies.size} copies" }
    val open = copies.mapNotNull { copy ->
        runCatching { TapferWallet.open(Memory().apply { sealed = copy }, key, null) }.getOrNull()
    }
    check(open.isNotEmpty()) { "the empty one opens" }
    open.forEach { check(it.tokens().isEmpty()) { "a card opens without the platform" } }
    phone.close()
}

/** A platform that answers like a broken one keeps nobody from paying; one that refuses does. */
fun aStartGoesOnWhenThePlatformIsBrokenAndEndsWhenItRefuses() {
    for ((status, problem, goesOn) in listOf(Triple(503, "busy", true), Triple(403, "share_withheld", false))) {
        val storage = Memory()
        val broken = com.sun.net.httpserver.HttpServer.create(java.net.InetSocketAddress("127.0.0.1", 0), 0)
        broken.createContext("/") { exchange ->
            val body = """{"type":"urn:tapfer:problem:$problem","detail":"as told"}""".toByteArray()
            exchange.sendResponseHeaders(status, body.size.toLong())
            exchange.responseBody.use { it.write(body) }
        }
        broken.start()
        val at = Enrolment("http://127.0.0.1:${broken.address.port}", "dev_1", "tapfer_device_x", "tok_1")
        val phone = Phone.open(storage, secret(), at, null)
        val moved = runCatching { phone.moveStoreIfReached() }
        check(moved.isSuccess == goesOn) { "$status: $moved" }
        phone.close()
        phone.forgetPins()
        check(phone.answer(byteArrayOf(0, 0), device()) == null) { "closed" }
        broken.stop(0)
    }
}

/** In English and in German, and none too many. */
fun everyLineHasItsText() {
    for (folder in listOf("values", "values-de")) {
        val text = File(resources, "$folder/strings.xml").readText()
        val names = Regex("name=\"(line_[a-z_]+)\"").findAll(text).map { it.groupValues[1] }.toList()
        check(names.sorted() == Line.entries.map { it.textName }.sorted()) { "$folder: $names" }
    }
    val (english, german) = listOf("values", "values-de").map { folder ->
        Regex("name=\"([a-z_]+)\"").findAll(File(resources, "$folder/strings.xml").readText())
            .map { it.groupValues[1] }.toList()
    }
    check(english == german) { "the languages differ: ${english - german} ${german - english}" }
    check(News.ReplenishSoon("").wantsKeys() && !News.ScreenOff("").wantsKeys())
    check(News.PinUnconfirmed("").wantsKeys() && News.PinUnconfirmed("").said() == null)
    check(News.NoPinKeysLeft("").wantsKeys() && News.NoPinKeysLeft("").said()?.line == Line.NO_PIN_KEYS_LEFT)
}

fun issuerOfTheCard(): String = run("card", "show").second.getString("issuer")

fun enrolled(storage: WalletStorage = Memory(), alarm: Alarm = ThreadAlarm()): Phone {
    val phone = Phone.open(storage, secret(), null, trust, alarm)
    phone.enrol(issuerOfTheCard(), "phone in Kotlin", issuer) {}
    return phone
}

fun main(arguments: Array<String>) {
    tapfer = arguments[0]
    home = File(arguments[1])
    server = arguments[2]
    resources = File(arguments[3])
    val tests = listOf(
        ::aPaymentIsApprovedAndThePlatformKnowsIt,
        ::thePersonIsAskedForAndTheNextTapPays,
        ::freshKeysComeAndTheCounterGoesOn,
        ::aPinPaysWhatALockedPhoneCannotAndAWrongOneIsCounted,
        ::aPinThatWasNotUsedIsForgottenWhenItsMinuteIsOver,
        ::anAlarmRingsOnceForWhatWasSetLast,
        ::aStorageThatBreaksLetsNoReplyOut,
        ::aWalletInAFileIsOneWalletAtATimeAndOpensAgain,
        ::anotherDevicesSecretDoesNotOpenIt,
        ::aPhoneThatDiesBehindItsRegistrationGoesOnWithTheKeyItKept,
        ::anEnrolmentIsKeptSealedAndReplacedWhole,
        ::aCopyOfTheStoreIsWorthlessAfterTheNextKeys,
        ::noKeyEverLiesInAStoreThatOpensWithoutThePlatform,
        ::aStartGoesOnWhenThePlatformIsBrokenAndEndsWhenItRefuses,
        ::everyLineHasItsText,
    )
    val failed = tests.count { test ->
        val failure = runCatching { test() }.exceptionOrNull()
        println("${test.name}: ${if (failure == null) "ok" else "FAILED"}")
        failure?.printStackTrace()
        failure != null
    }
    println("${tests.size - failed} passed, $failed failed")
    exitProcess(if (failed == 0) 0 else 1)
}

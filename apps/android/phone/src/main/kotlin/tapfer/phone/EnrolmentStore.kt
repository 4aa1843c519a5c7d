package tapfer.phone

import java.io.File
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import java.nio.file.Files
import java.nio.file.StandardCopyOption.ATOMIC_MOVE
import java.nio.file.StandardOpenOption.CREATE
import java.nio.file.StandardOpenOption.READ
import java.nio.file.StandardOpenOption.TRUNCATE_EXISTING
import java.nio.file.StandardOpenOption.WRITE

/** What keeps bytes from everybody but this phone: on Android, a key of its keystore. */
interface Seal {
    fun seal(content: ByteArray): ByteArray

    fun open(sealed: ByteArray): ByteArray
}

/**
 * The enrolment in a file. The platform shows an API key once, so it has to outlive a loss of power in the
 * moment after: bytes to the disk first, then the name, then the folder.
 */
class EnrolmentStore(private val file: File, private val seal: Seal) {
    fun load(): Enrolment? {
        if (!file.exists()) return null
        return Enrolment.fromJson(seal.open(file.readBytes()).decodeToString())
    }

    /** Durable when it returns. */
    fun keep(enrolment: Enrolment) {
        val fresh = File(file.path + ".new")
        val content = ByteBuffer.wrap(seal.seal(enrolment.toJson().encodeToByteArray()))
        FileChannel.open(fresh.toPath(), CREATE, WRITE, TRUNCATE_EXISTING).use { channel ->
            while (content.hasRemaining()) channel.write(content)
            channel.force(true)
        }
        Files.move(fresh.toPath(), file.toPath(), ATOMIC_MOVE)
        FileChannel.open(file.absoluteFile.parentFile.toPath(), READ).use { it.force(true) }
    }
}

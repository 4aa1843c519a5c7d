package tapfer.app

import android.security.keystore.KeyGenParameterSpec
import android.security.keystore.KeyProperties
import android.security.keystore.StrongBoxUnavailableException
import java.security.KeyStore
import javax.crypto.Cipher
import javax.crypto.KeyGenerator
import javax.crypto.Mac
import javax.crypto.SecretKey
import javax.crypto.spec.GCMParameterSpec
import tapfer.phone.Seal

/**
 * This phone's own secret, from the Android Keystore. The keystore gives no key away, so the secret is
 * what a key in it computes over a fixed text: HMAC-SHA-256, 32 bytes, the same on every call, and on
 * no other phone. In StrongBox where there is one, else in the trusted execution environment.
 *
 * Neither key asks for the person: a tap must work with a locked phone, where the policy says so.
 */
object DeviceSecret : Seal {
    private const val PROVIDER = "AndroidKeyStore"
    private const val SECRET = "tapfer-device-secret-1"
    private const val SEAL = "tapfer-enrolment-1"
    private const val NONCE_LENGTH = 12
    private const val TAG_BITS = 128

    /** 32 bytes; whoever gets them wipes them. */
    fun ofThisPhone(): ByteArray =
        Mac.getInstance(KeyProperties.KEY_ALGORITHM_HMAC_SHA256).run {
            init(key(SECRET, KeyProperties.KEY_ALGORITHM_HMAC_SHA256, KeyProperties.PURPOSE_SIGN))
            doFinal(SECRET.encodeToByteArray())
        }

    /** Seals the enrolment: AES-256-GCM, the nonce in front. */
    override fun seal(content: ByteArray): ByteArray =
        Cipher.getInstance("AES/GCM/NoPadding").run {
            init(Cipher.ENCRYPT_MODE, sealingKey())
            iv + doFinal(content)
        }

    override fun open(sealed: ByteArray): ByteArray =
        Cipher.getInstance("AES/GCM/NoPadding").run {
            init(Cipher.DECRYPT_MODE, sealingKey(), GCMParameterSpec(TAG_BITS, sealed, 0, NONCE_LENGTH))
            doFinal(sealed, NONCE_LENGTH, sealed.size - NONCE_LENGTH)
        }

    private fun sealingKey() =
        key(
            SEAL,
            KeyProperties.KEY_ALGORITHM_AES,
            KeyProperties.PURPOSE_ENCRYPT or KeyProperties.PURPOSE_DECRYPT,
        )

    private fun key(alias: String, algorithm: String, purposes: Int): SecretKey {
        val keystore = KeyStore.getInstance(PROVIDER).apply { load(null) }
        keystore.getKey(alias, null)?.let { return it as SecretKey }
        return try {
            generate(alias, algorithm, purposes, strongBox = true)
        } catch (none: StrongBoxUnavailableException) {
            generate(alias, algorithm, purposes, strongBox = false)
        }
    }

    private fun generate(alias: String, algorithm: String, purposes: Int, strongBox: Boolean): SecretKey {
        val rules = KeyGenParameterSpec.Builder(alias, purposes).setIsStrongBoxBacked(strongBox)
        if (algorithm == KeyProperties.KEY_ALGORITHM_AES) {
            rules.setKeySize(256)
                .setBlockModes(KeyProperties.BLOCK_MODE_GCM)
                .setEncryptionPaddings(KeyProperties.ENCRYPTION_PADDING_NONE)
        }
        return KeyGenerator.getInstance(algorithm, PROVIDER).run {
            init(rules.build())
            generateKey()
        }
    }
}

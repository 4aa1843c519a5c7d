package tapfer.phone

import org.json.JSONObject

/**
 * What the issuer gave this phone: where the platform is, which device and token it is there, and the
 * API key that speaks for the device. The key opens nothing that is stored; kept apart from the wallet,
 * because it is needed to open it.
 */
class Enrolment(val platform: String, val device: String, val apiKey: String, val token: String) {
    fun toJson(): String =
        JSONObject()
            .put("platform", platform)
            .put("device", device)
            .put("api_key", apiKey)
            .put("token", token)
            .toString()

    /** Without the key. */
    override fun toString() = "Enrolment($device, $token at $platform)"

    companion object {
        fun fromJson(text: String): Enrolment {
            val fields = JSONObject(text)
            return Enrolment(
                platform = fields.getString("platform"),
                device = fields.getString("device"),
                apiKey = fields.getString("api_key"),
                token = fields.getString("token"),
            )
        }
    }
}

/**
 * The issuer's own server, where the person has an account. It knows who logged in, registers the phone
 * at the platform (`POST /v1/devices`, `/v1/tokens`, `.../activate`) and answers with what came of it.
 * An issuer's key never reaches a phone.
 */
fun interface Issuer {
    /** [registration] is the body of `POST /v1/devices`. */
    fun register(registration: String): Enrolment
}
